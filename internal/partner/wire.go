package partner

import (
	"encoding/json"
	"slices"
	"time"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
)

// Bounds of an offer.
const (
	maxAttempt      = 1_000_000
	maxCapabilities = 16
	maxMetrics      = 32
	maxLine         = 200 // of a purpose, and of a metric's name
	maxWithin       = 30 * 24 * time.Hour
)

// offerOf reads what a coordinator sent. What the agent makes paths of, counts
// with or waits for is checked here; what is asked, by the agreement.
func offerOf(o *federationpb.Offer) (federation.Offer, error) {
	offer := federation.Offer{
		Protocol: int(o.GetProtocol()), Federation: o.GetFederation(), Run: o.GetRun(), Round: int(o.GetRound()), Attempt: int(o.GetAttempt()),
		Partner: o.GetPartner(), Agreement: galley.Digest(o.GetAgreement()), Purpose: o.GetPurpose(), Model: o.GetModel(), Base: galley.Digest(o.GetBase()),
		MinCohort: int(o.GetMinCohort()), Strategy: federation.Strategy(o.GetStrategy()), Mu: o.GetMu(), Clip: o.GetClip(),
		Weighting: federation.Weighting(o.GetWeighting()), Metrics: o.GetMetrics(), Recipe: json.RawMessage(o.GetRecipe()),
		Within: min(o.GetWithin().AsDuration(), maxWithin),
	}
	for _, c := range o.GetCapabilities() {
		offer.Capabilities = append(offer.Capabilities, federation.Capability(c))
	}
	wrong := func(format string, args ...any) error {
		return galley.Errorf(galley.InvalidArgument, "offer", format, args...).WithRemedy("nothing is sent; ask the coordinator what happened")
	}
	for _, n := range []struct{ subject, name string }{{"federation", offer.Federation}, {"run", offer.Run}, {"partner", offer.Partner}, {"model", offer.Model}} {
		if galley.CheckName(n.subject, n.name) != nil {
			return offer, wrong("its %s is %q", n.subject, galley.Clip(printable(n.name), 80))
		}
	}
	for _, d := range []galley.Digest{offer.Agreement, offer.Base} {
		if _, err := galley.ParseDigest(string(d)); err != nil {
			return offer, wrong("%q is not a digest", galley.Clip(printable(string(d)), 80))
		}
	}
	switch {
	case offer.Round < 1 || offer.Round > federation.MaxRounds || offer.Attempt < 1 || offer.Attempt > maxAttempt:
		return offer, wrong("is for round %d, attempt %d", offer.Round, offer.Attempt)
	case offer.Within <= 0:
		return offer, wrong("leaves no time")
	case len(offer.Capabilities) > maxCapabilities || len(offer.Metrics) > maxMetrics:
		return offer, wrong("has %d capabilities and %d metrics", len(offer.Capabilities), len(offer.Metrics))
	case len(offer.Purpose) > maxLine || slices.ContainsFunc(offer.Metrics, func(m string) bool { return len(m) > maxLine }):
		return offer, wrong("has a purpose or a metric of more than %d bytes", maxLine)
	case !slices.Contains([]federation.Strategy{federation.FedAvg, federation.FedProx}, offer.Strategy):
		return offer, wrong("has a strategy that this agent does not know")
	case offer.Strategy == federation.FedAvg && offer.Mu != 0:
		return offer, wrong("has a mu of %g with fedavg", offer.Mu)
	case !slices.Contains([]federation.Weighting{federation.ByRows, federation.Uniform}, offer.Weighting):
		return offer, wrong("has a weighting that this agent does not know")
	}
	return offer, nil
}

// headerOf is a signed header as it is sent.
func headerOf(h federation.SignedHeader) *federationpb.Header {
	out := &federationpb.Header{
		Protocol: int32(h.Protocol), Federation: h.Federation, Run: h.Run, Round: int32(h.Round), Attempt: int32(h.Attempt), Partner: h.Partner,
		Agreement: string(h.Agreement), Base: string(h.Base), Update: string(h.Update), Rows: h.Rows, Metrics: h.Metrics, Signature: h.Signature,
	}
	for _, c := range h.Capabilities {
		out.Capabilities = append(out.Capabilities, string(c))
	}
	return out
}
