package galley

import (
	"fmt"
	"strconv"
	"strings"
)

// A Ref points at one version of a model (or of a dataset): by number
// ("news-topic@3"), by alias ("news-topic:prod"), by digest
// ("sha256:…"), or by name alone, which stands for the newest version.
type Ref struct {
	Name    string
	Version int    // 1 and up; 0 if the ref gives none
	Alias   string // empty if the ref gives none
	Digest  Digest // set alone, without a name
}

// ParseRef reads a ref as users write it.
func ParseRef(s string) (Ref, error) {
	if strings.HasPrefix(s, "sha256:") {
		d, err := ParseDigest(s)
		return Ref{Digest: d}, err
	}
	if name, number, ok := strings.Cut(s, "@"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 1<<30 {
			return Ref{}, Errorf(InvalidArgument, "ref", "%q has no version number after @", Clip(s, 80)).
				WithRemedy("write name@3")
		}
		return Ref{Name: name, Version: n}, CheckName("ref", name)
	}
	if name, alias, ok := strings.Cut(s, ":"); ok {
		if err := CheckName("ref", name); err != nil {
			return Ref{}, err
		}
		return Ref{Name: name, Alias: alias}, CheckName("alias", alias)
	}
	return Ref{Name: s}, CheckName("ref", s)
}

// String writes the ref as ParseRef reads it.
func (r Ref) String() string {
	switch {
	case r.Digest != "":
		return string(r.Digest)
	case r.Version > 0:
		return fmt.Sprintf("%s@%d", r.Name, r.Version)
	case r.Alias != "":
		return r.Name + ":" + r.Alias
	default:
		return r.Name
	}
}
