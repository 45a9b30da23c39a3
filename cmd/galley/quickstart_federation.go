package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/evals"
	"galley/federation"
	"galley/internal/control"
	"galley/internal/partner"
)

// A newsroom is a partner of the quickstart's federation.
type newsroom struct {
	name   string
	topics []string // that most of its headlines are of
}

// quickstartRounds are those of headlines-together.yaml.
const quickstartRounds = 4

var newsrooms = [...]newsroom{
	{"harbour-gazette", []string{"business", "politics"}},
	{"hill-radio", []string{"culture", "sports"}},
	{"lake-archive", []string{"science", "technology"}},
}

// federate has three partners, processes of their own with headlines of their
// own, train a model together that began with few.
func (s *story) federate(ctx context.Context) (string, error) {
	job, err := s.submit(ctx, "headlines-start.yaml")
	if err != nil {
		return "", err
	}
	_, start, err := s.finish(ctx, job)
	if err != nil {
		return "", err
	}
	rows, err := s.divide()
	if err != nil {
		return "", err
	}
	v, err := s.together(ctx, start)
	if err != nil {
		return "", err
	}
	bytes, err := s.holdRounds(ctx, v)
	if err != nil {
		return "", err
	}
	before, err := testAccuracy(start)
	if err != nil {
		return "", err
	}
	after, err := testAccuracy(v)
	if err != nil {
		return "", err
	}
	if after <= before {
		return "", wrong("%s is right on %.1f %% of the test split, and %s, which it began with, on %.1f %%", v.GetRef(), 100*after, start.GetRef(), 100*before)
	}
	return fmt.Sprintf("three partner processes with %d, %d and %d headlines made %s of %s in %d rounds: right on %.1f %% of the test split instead of %.1f %%; each sent %.1f MB of weights' changes, signed, and no text",
		rows[0], rows[1], rows[2], v.GetRef(), start.GetRef(), quickstartRounds, 100*after, 100*before, float64(bytes)/1e6), nil
}

// partnerFolder is where a partner of the quickstart keeps its key, its state
// and its headlines.
func (s *story) partnerFolder(name string) string { return filepath.Join(s.home, "institutions", name) }

// divide gives each partner nine in ten headlines of its topics, and a part of
// the others.
func (s *story) divide() (rows []int, err error) {
	data, err := os.ReadFile(filepath.Join(s.files, "train.csv"))
	if err != nil {
		return nil, fileError("train.csv", err)
	}
	records, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		return nil, err
	}
	shares := make([][][]string, len(newsrooms))
	for i, row := range records[1:] {
		owner := slices.IndexFunc(newsrooms[:], func(n newsroom) bool { return slices.Contains(n.topics, row[1]) })
		if i%10 == 0 {
			owner = i / 10 % len(shares)
		}
		if owner < 0 {
			return nil, wrong("no partner has headlines of %q", row[1])
		}
		shares[owner] = append(shares[owner], row)
	}
	for i, n := range newsrooms {
		var file bytes.Buffer
		if err := csv.NewWriter(&file).WriteAll(slices.Concat(records[:1], shares[i])); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(s.partnerFolder(n.name), 0o700); err != nil {
			return nil, fileError(n.name, err)
		}
		if err := os.WriteFile(filepath.Join(s.partnerFolder(n.name), "train.csv"), file.Bytes(), 0o600); err != nil {
			return nil, fileError(n.name, err)
		}
		rows = append(rows, len(shares[i]))
	}
	return rows, nil
}

// agreementOf is what a partner of the quickstart permits.
func agreementOf(name string, ends time.Time) []byte {
	return fmt.Appendf(nil, `apiVersion: galley/v1
kind: Agreement
federation: headlines
partner: %s
purpose: topics of headlines
models: [headlines-together]
rounds: 10
min_cohort: 3
expires: %s
leaves:
  weights: true
  rows: {report: rounded, unit: 10, most: 10000}
  metrics: [loss]
`, name, ends.Format(time.DateOnly))
}

// together has the partners known, starts their agents and runs the rounds. The
// agents end by themselves, after as many.
func (s *story) together(ctx context.Context, start *controlpb.Version) (*controlpb.Version, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	server, err := os.ReadFile(filepath.Join(s.home, control.PartnersFolder, "server.crt"))
	if err != nil {
		return nil, fileError("server.crt", err)
	}
	// The rounds wait for all three: without one of them there are none.
	ctx, stop := context.WithCancelCause(ctx)
	var agents sync.WaitGroup
	defer agents.Wait()
	defer stop(nil)
	var said [len(newsrooms)]bytes.Buffer
	for i, n := range newsrooms {
		agent, err := s.startAgent(ctx, self, n.name, server, &said[i])
		if err != nil {
			return nil, err
		}
		agents.Go(func() {
			if err := agent.Wait(); err != nil {
				stop(wrong("the agent of %s: %v: %s", n.name, err, lastLine(said[i].String())))
			}
		})
	}
	job, err := s.submit(ctx, "headlines-together.yaml", "from="+start.GetRef())
	if err != nil {
		return nil, err
	}
	_, v, err := s.finish(ctx, job)
	if err == nil {
		agents.Wait()
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return nil, err
	}
	if from := v.GetLineage().AsMap()["parent_digest"]; from != start.GetDigest() {
		return nil, wrong("%s comes from %v, not from %s", v.GetRef(), from, start.GetRef())
	}
	return v, nil
}

// startAgent takes one partner from its key to its process.
func (s *story) startAgent(ctx context.Context, self, name string, server []byte, said *bytes.Buffer) (*exec.Cmd, error) {
	folder := s.partnerFolder(name)
	_, path, err := partner.Keygen(folder, name, 365, time.Now())
	if err != nil {
		return nil, err
	}
	certificate, err := os.ReadFile(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	if _, err := s.client.federations.EnrolPartner(ctx, &controlpb.EnrolPartnerRequest{Partner: name, Certificate: certificate}); err != nil {
		return nil, err
	}
	joining := partner.Joining{Agreement: agreementOf(name, time.Now().AddDate(1, 0, 0)), Coordinator: s.forPartners, Server: server}
	if _, err := partner.Join(ctx, folder, joining, revision, time.Now); err != nil {
		return nil, err
	}
	agent := exec.CommandContext(ctx, self, "partner", "serve", "--home", folder, "--data", filepath.Join(folder, "train.csv"), "--rounds", strconv.Itoa(quickstartRounds))
	agent.Stderr = said
	agent.Cancel = func() error { return agent.Process.Signal(os.Interrupt) }
	agent.WaitDelay = 2 * partnerGrace
	return agent, agent.Start()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// holdRounds holds the records of the rounds against what each partner wrote
// down of what it sent, and returns how many bytes of updates one of them sent.
func (s *story) holdRounds(ctx context.Context, v *controlpb.Version) (int64, error) {
	job, _ := v.GetLineage().AsMap()["job"].(string)
	list, err := s.client.federations.ListRounds(ctx, &controlpb.ListRoundsRequest{Job: job})
	if err != nil {
		return 0, err
	}
	if len(list.GetRounds()) != quickstartRounds {
		return 0, wrong("%s has %d rounds", job, len(list.GetRounds()))
	}
	counted := map[galley.Digest]string{} // partner by update
	for _, r := range list.GetRounds() {
		if r.GetPhase() != string(federation.Closed) || !r.GetCoordinatorSawSingleUpdates() || len(r.GetCohort()) != len(newsrooms) {
			return 0, wrong("round %d is %s with %d partners", r.GetRound(), r.GetPhase(), len(r.GetCohort()))
		}
		whole, err := s.client.federations.GetRound(ctx, &controlpb.RoundRequest{Job: job, Round: r.GetRound()})
		if err != nil {
			return 0, err
		}
		var record federation.Round
		if err := json.Unmarshal([]byte(whole.GetRecord()), &record); err != nil {
			return 0, err
		}
		for _, part := range record.Parts() {
			counted[part.Update] = part.Partner
		}
	}
	var bytes int64
	for _, n := range newsrooms {
		updates, err := sentUpdates(s.partnerFolder(n.name))
		if err != nil {
			return 0, err
		}
		if len(updates) != quickstartRounds {
			return 0, wrong("%s wrote down %d updates", n.name, len(updates))
		}
		bytes = 0
		for _, u := range updates {
			if counted[u.Digest] != n.name {
				return 0, wrong("%s sent %s, which no round counts", n.name, u.Digest.Short())
			}
			bytes += u.Bytes
		}
	}
	return bytes, nil
}

// sentUpdates are the updates that a partner's agent wrote down before it sent
// them.
func sentUpdates(folder string) (updates []partner.Sent, err error) {
	data, err := os.ReadFile(filepath.Join(folder, "sent.jsonl"))
	if err != nil {
		return nil, fileError("sent.jsonl", err)
	}
	for line := range strings.Lines(string(data)) {
		var of partner.Sent
		if err := json.Unmarshal([]byte(line), &of); err != nil {
			return nil, err
		}
		if of.What == partner.SentUpdate {
			updates = append(updates, of)
		}
	}
	return updates, nil
}

// testAccuracy is the accuracy of a version on the test split, as its job
// measured it.
func testAccuracy(v *controlpb.Version) (float64, error) {
	for _, kept := range v.GetReports() {
		r, err := decodeReport(kept)
		if err != nil {
			return 0, err
		}
		if r.Dataset.Split == "test" {
			return r.Metrics[evals.Accuracy].Value, nil
		}
	}
	return 0, wrong("%s was not measured on a test split", v.GetRef())
}
