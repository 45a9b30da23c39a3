package registry

import (
	"strconv"
	"time"

	"galley"
)

// A Model is a name with its versions and aliases, as they are at one moment.
type Model struct {
	Name     string    `json:"name"`
	Versions []Summary `json:"versions"` // by number
	Aliases  []Alias   `json:"aliases"`  // by name
}

// A Summary is a version in a list.
type Summary struct {
	Number  int           `json:"number"`
	Digest  galley.Digest `json:"digest"`
	Task    string        `json:"task"`
	Created time.Time     `json:"created"`
}

// Newest returns the number of the newest version, 0 if there is none.
func (m Model) Newest() int {
	if len(m.Versions) == 0 {
		return 0
	}
	return m.Versions[len(m.Versions)-1].Number
}

// Alias returns the alias of that name.
func (m Model) Alias(name string) (Alias, bool) {
	for _, a := range m.Aliases {
		if a.Name == name {
			return a, true
		}
	}
	return Alias{}, false
}

// AliasesOf returns the names of the aliases that point at a version.
func (m Model) AliasesOf(number int) []string {
	var names []string
	for _, a := range m.Aliases {
		if a.Target == number {
			names = append(names, a.Name)
		}
	}
	return names
}

// Resolve returns the number of the version that a ref with the model's name
// stands for: the newest if the ref has neither number nor alias.
func (m Model) Resolve(ref galley.Ref) (int, error) {
	switch {
	case ref.Version > 0:
		for _, v := range m.Versions {
			if v.Number == ref.Version {
				return v.Number, nil
			}
		}
		return 0, m.missing(ref.String(), "there is no such version; the newest is %s", galley.Ref{Name: m.Name, Version: m.Newest()})
	case ref.Alias != "":
		a, ok := m.Alias(ref.Alias)
		if !ok || a.Target == 0 {
			return 0, m.missing(ref.String(), "there is no such alias")
		}
		return a.Target, nil
	case m.Newest() == 0:
		return 0, m.missing(m.Name, "has no version")
	default:
		return m.Newest(), nil
	}
}

// Traffic returns the number of the version that answers a request for the
// model. version is what the request says: a number, or any other word for an
// alias. Empty follows alias prod, or the newest version of a model that
// never had it.
func (m Model) Traffic(version string) (int, error) {
	if version == "" {
		if a, had := m.Alias(Prod); had {
			return m.Resolve(galley.Ref{Name: m.Name, Alias: a.Name})
		}
		return m.Resolve(galley.Ref{Name: m.Name})
	}
	if n, err := strconv.Atoi(version); err == nil {
		if n < 1 {
			return 0, galley.Errorf(galley.InvalidArgument, m.Name, "%d is not a version number", n)
		}
		return m.Resolve(galley.Ref{Name: m.Name, Version: n})
	}
	if err := galley.CheckName("model version", version); err != nil {
		return 0, err
	}
	return m.Resolve(galley.Ref{Name: m.Name, Alias: version})
}

func (m Model) missing(subject, format string, args ...any) error {
	return galley.Errorf(galley.NotFound, subject, format, args...).WithRemedy("list them with galley models show %s", m.Name)
}
