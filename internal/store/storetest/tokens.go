package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/internal/audit"
	"galley/internal/auth"
	"galley/internal/store"
	"galley/registry"
	"galley/trainer"
)

func newToken(name string, role auth.Role, tenant string) auth.Token {
	_, id, digest := auth.NewSecret()
	return auth.Token{ID: id, Name: name, Role: role, Tenant: tenant, Digest: digest, Created: noon, Expires: noon.Add(time.Hour)}
}

func testTokens(t *testing.T, s Store) {
	ctx := t.Context()
	cms := newToken("cms", auth.Application, "sports-desk")
	root := newToken("root", auth.Admin, "")
	root.Expires = time.Time{}
	for _, token := range []auth.Token{cms, root} {
		if err := s.AddToken(ctx, token, by("auth.create")); err != nil {
			t.Fatal(err)
		}
	}
	if all := must[[]auth.Token](t)(s.Tokens(ctx)); len(all) != 2 {
		t.Errorf("%+v", all)
	}
	wantCode(t, s.AddToken(ctx, newToken("cms", auth.Viewer, ""), by("auth.create")), galley.AlreadyExists)
	for _, bad := range []auth.Token{
		newToken("x", "king", ""), newToken("A b", auth.Viewer, ""), newToken("local", auth.Viewer, ""), newToken("galley", auth.Viewer, ""),
		newToken("x", auth.Admin, "desk"), newToken("x", auth.Viewer, "No Name"),
	} {
		wantCode(t, s.AddToken(ctx, bad, by("auth.create")), galley.InvalidArgument)
	}

	next := newToken("cms", auth.Application, "sports-desk")
	next.Replaces = cms.ID
	old := must[auth.Token](t)(s.RotateToken(ctx, next, noon.Add(time.Minute), by("auth.rotate")))
	cms.Expires = noon.Add(time.Minute)
	wantEqual(t, "the token before", old, cms)
	again := newToken("cms", auth.Application, "sports-desk")
	again.Replaces = cms.ID
	old = must[auth.Token](t)(s.RotateToken(ctx, again, noon.Add(time.Hour), by("auth.rotate")))
	wantEqual(t, "an overlap lengthens no life", old, cms)

	revoked := must[auth.Token](t)(s.RevokeToken(ctx, next.ID, by("auth.revoke")))
	if !revoked.Revoked.Equal(noon) || revoked.Live(noon) {
		t.Errorf("%+v", revoked)
	}
	late := by("auth.revoke")
	late.At = noon.Add(time.Hour)
	wantEqual(t, "revoked twice", must[auth.Token](t)(s.RevokeToken(ctx, next.ID, late)), revoked)
	_, err := s.RevokeToken(ctx, "absent", late)
	wantCode(t, err, galley.NotFound)
	dead := newToken("cms", auth.Application, "")
	dead.Replaces = next.ID
	_, err = s.RotateToken(ctx, dead, noon, by("auth.rotate"))
	wantCode(t, err, galley.FailedPrecondition)
	dead.Replaces = "absent"
	_, err = s.RotateToken(ctx, dead, noon, by("auth.rotate"))
	wantCode(t, err, galley.NotFound)

	if err := s.NoteRefusal(auth.WithCaller(ctx, cms.Caller()), "/Promote", by("auth.refuse")); err != nil {
		t.Error(err)
	}
	var log []string
	for _, e := range must[[]audit.Entry](t)(s.Audit(ctx, store.AuditQuery{})) {
		log = append(log, e.Action+" "+e.Subject)
	}
	wantEqual(t, "audit", log, []string{
		"auth.create cms/" + cms.ID, "auth.create root/" + root.ID, "auth.rotate cms/" + next.ID, "auth.rotate cms/" + again.ID,
		"auth.revoke cms/" + next.ID, "auth.refuse /Promote",
	})
}

// Who writes first under a name owns it; no other tenant changes it in any
// way.
func testOwners(t *testing.T, s Store) {
	as := func(tenant string) context.Context {
		return auth.WithCaller(t.Context(), auth.Caller{Actor: "someone", Role: auth.Engineer, Tenant: tenant})
	}
	sports, culture, house := as("sports-desk"), as("culture-desk"), as("")
	// Each writes one of everything under its own name.
	writes := func(ctx context.Context, model, data string, seed int) map[string]error {
		errs := map[string]error{}
		_, _, errs["dataset"] = s.AddDataset(ctx, Manifest(data, uint64(seed)), by("data.add"))
		j := Job(fmt.Sprint(model, "-job-", seed))
		j.Spec.Name = model
		_, errs["job"] = s.CreateJob(ctx, j, by("job.submit"))
		_, _, errs["version"] = s.Register(ctx, Version(model, seed))
		return errs
	}
	for tenant, ctx := range map[string]context.Context{"sports": sports, "culture": culture, "house": house} {
		for what, err := range writes(ctx, tenant+"-model", tenant+"-data", 1) {
			if err != nil {
				t.Fatalf("%s, first %s: %v", tenant, what, err)
			}
		}
	}
	changes := func(ctx context.Context, owner string, seed int) map[string]error {
		model := owner + "-model"
		errs := writes(ctx, model, owner+"-data", seed)
		_, errs["promote"] = s.Promote(ctx, request(model, fmt.Sprint("alias", seed), 1))
		_, errs["report"] = s.AddReport(ctx, model, 1, &evals.Report{Ref: model + "@1", N: seed}, registry.Stamp{By: "someone", At: noon})
		j := must[trainer.Job](t)(s.Job(ctx, model+"-job-1"))
		_, errs["job change"] = s.SaveJob(ctx, j, by("job.cancel"))
		return errs
	}
	for i, tt := range []struct {
		caller  string
		ctx     context.Context
		owner   string
		allowed bool
	}{
		{"sports", sports, "sports", true}, {"sports", sports, "culture", false}, {"sports", sports, "house", false},
		{"culture", culture, "sports", false}, {"house", house, "sports", true}, {"galley itself", t.Context(), "culture", true},
	} {
		for what, err := range changes(tt.ctx, tt.owner, 10+i) {
			if tt.allowed && err != nil || !tt.allowed && galley.CodeOf(err) != galley.PermissionDenied {
				t.Errorf("%s changes %s of %s: %v", tt.caller, what, tt.owner, err)
			}
		}
	}
	_, err := s.DeleteVersion(sports, "house-model", 1, registry.Stamp{By: "someone", At: noon})
	wantCode(t, err, galley.PermissionDenied)
	// A refused write claims nothing.
	if _, _, err := s.AddDataset(sports, &dataset.Manifest{}, by("data.add")); err == nil {
		t.Error("an empty manifest was added")
	}
	broken := Job("new-job")
	broken.Spec.Name = "new-model"
	must[trainer.Job](t)(s.CreateJob(culture, broken, by("job.submit")))
	_, err = s.CreateJob(sports, broken, by("job.submit"))
	wantCode(t, err, galley.AlreadyExists)
	_, _, err = s.Register(sports, Version("new-model", 1))
	wantCode(t, err, galley.PermissionDenied)
	// Nothing of a name that has no owner is a tenant's to change.
	wantCode(t, s.AddToken(sports, newToken("mine", auth.Viewer, ""), by("auth.create")), galley.PermissionDenied)
}
