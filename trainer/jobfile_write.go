package trainer

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// YAML writes the job file of s with each value filled in. Reading it gives s
// again.
func (s Spec) YAML() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	var b strings.Builder
	writeYAML(&b, reflect.ValueOf(s), "", "", s.fixed())
	return []byte(b.String()), nil
}

// fixed are the fields that kind, task or the model that is gone on from leave
// no choice of.
func (s Spec) fixed() []string {
	var fixed []string
	for _, f := range kindFields {
		if !slices.Contains(f.kinds, s.Kind) {
			fixed = append(fixed, f.path)
		}
	}
	at := s.section()
	if s.Start() != "" {
		for _, name := range []string{"layers", "hidden", "heads", "feed_forward", "vocabulary", "min_frequency"} {
			fixed = append(fixed, at+"."+name)
		}
	}
	if s.Task == TextMLM {
		fixed = append(fixed, at+".ngrams", "recipe.class_weights", "recipe.label_smoothing", "recipe.branch_loss")
	} else {
		fixed = append(fixed, "recipe.mask_rate")
	}
	if !s.trains() && s.Data == (Data{}) {
		fixed = append(fixed, "data")
	}
	return fixed
}

// writeYAML writes the fields of a struct but for those fixed, for texts that
// are empty and for mappings that are: they are not given.
func writeYAML(b *strings.Builder, v reflect.Value, path, indent string, fixed []string) {
	for i := range v.NumField() {
		name, value := v.Type().Field(i).Tag.Get("yaml"), v.Field(i)
		if v.Type().Field(i).Anonymous { // its fields are the struct's own
			writeYAML(b, value, path, indent, fixed)
			continue
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		if slices.Contains(fixed, at) {
			continue
		}
		switch x := value.Interface().(type) {
		case string:
			if x != "" {
				fmt.Fprintf(b, "%s%s: %s\n", indent, name, yamlText(x))
			}
		case []string:
			if len(x) > 0 {
				fmt.Fprintf(b, "%s%s:\n", indent, name)
			}
			for _, text := range x {
				fmt.Fprintf(b, "%s  - %s\n", indent, yamlText(text))
			}
		case []PipelineStep:
			writeSteps(b, x, indent)
		case map[string]float64:
			if len(x) > 0 {
				fmt.Fprintf(b, "%s%s:\n", indent, name)
			}
			for _, key := range slices.Sorted(maps.Keys(x)) {
				fmt.Fprintf(b, "%s  %s: %s\n", indent, yamlText(key), number(x[key]))
			}
		case bool:
			fmt.Fprintf(b, "%s%s: %t\n", indent, name, x)
		case float64:
			fmt.Fprintf(b, "%s%s: %s\n", indent, name, number(x))
		default:
			if value.Kind() != reflect.Struct {
				fmt.Fprintf(b, "%s%s: %d\n", indent, name, x)
				continue
			}
			fmt.Fprintf(b, "%s%s:\n", indent, name)
			writeYAML(b, value, at, indent+"  ", fixed)
		}
	}
}

func writeSteps(b *strings.Builder, steps []PipelineStep, indent string) {
	if len(steps) > 0 {
		fmt.Fprintf(b, "%ssteps:\n", indent)
	}
	for _, step := range steps {
		fmt.Fprintf(b, "%s  - id: %s\n", indent, step.ID)
		if len(step.Needs) > 0 {
			fmt.Fprintf(b, "%s    needs: [%s]\n", indent, strings.Join(step.Needs, ", "))
		}
		fmt.Fprintf(b, "%s    spec:\n", indent)
		writeYAML(b, reflect.ValueOf(step.Spec), "", indent+"      ", step.Spec.fixed())
	}
}

// plain are texts that YAML reads as they stand.
var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._/-]*([@:=][A-Za-z0-9._/-]+)?$`)

func yamlText(s string) string {
	if plain.MatchString(s) && !strings.EqualFold(s, "null") {
		return s
	}
	// Go's escapes are YAML's.
	return strconv.Quote(s)
}
