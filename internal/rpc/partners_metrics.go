package rpc

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"galley/federation"
)

// partnerCounts is what went over the partners' port.
type partnerCounts struct {
	in, out atomic.Int64           // bytes, with what TLS adds
	refused *prometheus.CounterVec // connections, by reason
	uploads *prometheus.CounterVec // by verdict
}

func newPartnerCounts() *partnerCounts {
	return &partnerCounts{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_partner_connections_refused",
			Help: "Connections of partners' agents that were not made: unauthenticated without a certificate that is known and valid, refused with one that was revoked, handshake without TLS 1.3 or any certificate.",
		}, []string{"reason"}),
		uploads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_partner_uploads",
			Help: "Updates of partners, by verdict: accepted, resent, the reason why one counts for nothing, or failed if it was not judged.",
		}, []string{"verdict"}),
	}
}

// uploaded counts an update.
func (c *partnerCounts) uploaded(v federation.Verdict, err error) {
	verdict := "accepted"
	switch {
	case err != nil:
		verdict = "failed"
	case !v.OK():
		verdict = string(v.Reason)
	case v.Resent:
		verdict = "resent"
	}
	c.uploads.WithLabelValues(verdict).Inc()
}

// WatchPartners adds the counters of the partners' port.
func (m *Metrics) WatchPartners(s *PartnersServer) {
	m.registry.MustRegister(s.counts.refused, s.counts.uploads, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "galley_partner_connections", Help: "Connections of partners' agents.",
	}, func() float64 { return float64(s.conns.count()) }))
	for direction, n := range map[string]*atomic.Int64{"in": &s.counts.in, "out": &s.counts.out} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "galley_partner_bytes", ConstLabels: prometheus.Labels{"direction": direction},
			Help: "Bytes on the partners' port: in from agents, out to them, with what TLS adds.",
		}, func() float64 { return float64(n.Load()) }))
	}
}
