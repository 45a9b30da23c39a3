package auth

import (
	"slices"

	"galley"
)

// A Role is what a token is for.
type Role string

// The roles.
const (
	Viewer      Role = "viewer"      // looks at jobs, models, data and figures
	Engineer    Role = "engineer"    // trains, evaluates and promotes behind the gate
	Operator    Role = "operator"    // keeps the platform running; may force a promotion
	Application Role = "application" // asks models
	Partner     Role = "partner"     // an institution that is known, and reads what is public of models
	Admin       Role = "admin"       // everything, tokens and backups included
)

// Roles are all roles, in the order of the documentation.
func Roles() []Role { return []Role{Viewer, Engineer, Operator, Application, Partner, Admin} }

// ParseRole checks that s names a role.
func ParseRole(s string) (Role, error) {
	if r := Role(s); slices.Contains(Roles(), r) {
		return r, nil
	}
	return "", galley.Errorf(galley.InvalidArgument, "role", "%q is not a role", galley.Clip(s, 80)).
		WithRemedy("choose viewer, engineer, operator, application, partner or admin")
}

// A Permission is what a method or a route asks of its caller.
type Permission string

// The permissions.
const (
	Open       Permission = "open"       // no caller need be known: health and readiness
	Describe   Permission = "describe"   // what is served, with its inputs and outputs
	Infer      Permission = "infer"      // ask a model
	Observe    Permission = "observe"    // jobs, versions, data, metrics, the list of methods
	Build      Permission = "build"      // add data, run jobs, import, evaluate
	Promote    Permission = "promote"    // move an alias behind its gate, roll it back
	Force      Permission = "force"      // move an alias past its gate
	Operate    Permission = "operate"    // delete versions, load and unload models, collect blobs, enrol and revoke partners
	Audit      Permission = "audit"      // read and verify the audit log
	Administer Permission = "administer" // tokens and backups
)

// Permissions are all permissions, in the order of the documentation.
func Permissions() []Permission {
	return []Permission{Open, Describe, Infer, Observe, Build, Promote, Force, Operate, Audit, Administer}
}

// granted is what each role may do. A role that is not in it may do nothing.
var granted = map[Role][]Permission{
	Viewer:      {Open, Describe, Observe},
	Engineer:    {Open, Describe, Infer, Observe, Build, Promote},
	Operator:    {Open, Describe, Infer, Observe, Build, Promote, Force, Operate, Audit},
	Application: {Open, Describe, Infer},
	Partner:     {Open, Describe},
	Admin:       {Open, Describe, Infer, Observe, Build, Promote, Force, Operate, Audit, Administer},
}

// May reports whether a role has a permission.
func (r Role) May(p Permission) bool { return slices.Contains(granted[r], p) }

// With lists the roles that have a permission.
func With(p Permission) []Role {
	var roles []Role
	for _, r := range Roles() {
		if r.May(p) {
			roles = append(roles, r)
		}
	}
	return roles
}
