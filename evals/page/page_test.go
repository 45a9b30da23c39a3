package page

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
	"galley/evals"
)

func metric(value float64, n int) evals.Metric {
	return evals.Metric{Value: value, Low: value - .1, High: value + .1, Method: "wilson", N: n}
}

// full is a report with everything in it, and the given text wherever text
// from outside stands.
func full(text string) *evals.Report {
	labels := []string{text, "sport", "money"}
	metrics := map[string]evals.Metric{evals.Accuracy: metric(.8, 50), evals.MacroF1: metric(.7, 50), evals.Loss: metric(.4, 50), evals.ECE: metric(.1, 50), text: metric(.2, 50)}
	slice := evals.Slice{Name: "language=" + text, N: 50, Metrics: metrics}
	at := evals.Disagreement{Row: 3, Place: text, Label: text, Answer: text, Other: text, Text: text}
	return &evals.Report{
		Ref: "desk@2" + text, Model: "sha256:aa", Task: text, N: 50, Metrics: metrics, Slices: []evals.Slice{slice},
		Dataset:     evals.Data{Name: text, Version: 2, Split: text, Digest: "sha256:bb"},
		Labels:      []evals.LabelScore{{Label: text, N: 5, F1: .5}, {Label: "sport", N: 45, F1: .4}, {Label: "money"}},
		Confusion:   &evals.Confusion{Labels: labels, Counts: [][]int{{3, 1, 1}, {2, 40, 3}, {0, 0, 0}}},
		Confused:    []evals.ConfusedPair{{Label: text, Answer: text, N: 3, Share: .1}},
		Calibration: []evals.Bin{{N: 25, Confidence: .6, Accuracy: metric(.5, 25)}, {N: 25, Confidence: .9, Accuracy: metric(.95, 25)}},
		LatencyMS:   evals.Latency{P50: 1, P99: 4, Mean: 1.5, N: 50, Histogram: []evals.Bucket{{FromMS: .5, ToMS: 1.5, N: 30}, {FromMS: 1.5, ToMS: 4.5, N: 20}}},
		Resources:   evals.Resources{RowsPerSecond: 100, CPUSecondsPerThousand: .5, PeakBytes: 1 << 20, SizeBytes: 5 << 20, Energy: &evals.Energy{NotMeasured: text}, Cost: &evals.Cost{PerCPUHour: .04, PerThousand: 5.5e-6}},
		Robustness:  &evals.Robustness{Seed: 7, Perturbations: []evals.Perturbed{{Name: text, What: text, N: 40, Accuracy: metric(.6, 40), Clean: metric(.8, 40), Drop: metric(.2, 40)}, {Name: "numbers", What: "other numbers"}}},
		Gate:        evals.Verdict{Checks: []evals.Check{{Name: text, Detail: text}}},
		Baselines: []evals.Baseline{{
			Name: text, Model: "sha256:cc", Metrics: metrics, Difference: metric(.05, 50), Agreement: metric(.9, 50), P: .03, Pairing: evals.Pairing{N: 50, OnlyA: 5, OnlyB: 2},
			Differences:   map[string]evals.Metric{evals.Accuracy: metric(.05, 50), evals.MacroF1: metric(.04, 50)},
			Slices:        []evals.Contrast{{Slice: slice, Difference: metric(.05, 50), P: .01, PAdjusted: .02}},
			Ratios:        map[string]evals.Metric{evals.LatencyMedian: metric(1, 50), evals.LatencyTail: metric(1.2, 50)},
			Disagreements: &evals.Disagreements{N: 9, OnlyModel: []evals.Disagreement{at}, Neither: []evals.Disagreement{at}},
		}},
	}
}

func write(t interface{ Fatal(...any) }, r *evals.Report) string {
	var b bytes.Buffer
	if err := Write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// elements are what pages are made of.
var elements = strings.Fields("html head meta title style body header h1 bdi p nav ul li a main section div table caption thead tbody tr th td dl dt dd code " +
	"strong span h2 figure figcaption svg desc line text circle rect path g details summary footer br")

// check reads a page as a tree, and holds it to what a page may have: known
// elements, no handlers, no addresses but within it.
func check(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}, page string) {
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = true, []string{"meta", "br"}, xml.HTMLEntity
	d.Strict = false // for elements that have no end
	ids, named := map[string]bool{}, []string{}
	var open []string
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			open = append(open, x.Name.Local)
			if !slices.Contains(elements, x.Name.Local) {
				t.Fatalf("the page has <%s>", x.Name.Local)
			}
			for _, a := range x.Attr {
				switch name := a.Name.Local; {
				case strings.HasPrefix(name, "on"), name == "src", name == "style", name == "href" && !strings.HasPrefix(a.Value, "#"):
					t.Fatalf("<%s %s=%q>", x.Name.Local, name, a.Value)
				case name == "id" && ids[a.Value]:
					t.Fatalf("two elements are called %q", a.Value)
				case name == "id":
					ids[a.Value] = true
				case name == "href":
					named = append(named, a.Value[1:])
				case name == "aria-labelledby":
					named = append(named, strings.Fields(a.Value)...)
				}
			}
		case xml.EndElement:
			if open[len(open)-1] != x.Name.Local {
				t.Fatalf("</%s> ends <%s>", x.Name.Local, open[len(open)-1])
			}
			open = open[:len(open)-1]
		}
	}
	for _, id := range named {
		if !ids[id] {
			t.Fatalf("nothing is called %q", id)
		}
	}
}

func TestPage(t *testing.T) {
	page := write(t, full("<b>央行</b> & \"co\""))
	check(t, page)
	for _, want := range []string{
		"<!doctype html>", `<html lang="en">`, "default-src 'none'", "prefers-color-scheme: dark",
		"&lt;b&gt;央行&lt;/b&gt; &amp; &#34;co&#34;", "The gate refuses this version", "McNemar p 0.030", "&#43;5.0",
		`id="reliability-t"`, `id="slices-t"`, `id="confusion-t"`, `id="latency-t"`, `id="robustness-t"`, `id="against-1-plot-t"`,
		"not measured: ", "0.00000550 a thousand rows, at 0.0400", "changes no row", "9 rows are answered differently", "p99 1.200 times",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if svgs, named := strings.Count(page, "<svg"), strings.Count(page, `role="img" aria-labelledby=`); svgs != 6 || named != svgs {
		t.Errorf("%d plots, %d with a name", svgs, named)
	}
	if tables, captions := strings.Count(page, "<table"), strings.Count(page, "<caption"); tables != captions {
		t.Errorf("%d tables, %d captions", tables, captions)
	}
	names := map[string]bool{}
	for _, found := range regexp.MustCompile(`aria-label="([^"]*)"|<h2 [^>]*>(.*)</h2>`).FindAllStringSubmatch(page, -1) {
		if name := found[1] + found[2]; names[name] {
			t.Errorf("two parts are called %q", name)
		} else {
			names[name] = true
		}
	}
	if strings.Contains(page, "<b>") || strings.Contains(page, "ZgotmplZ") || strings.Contains(page, "%!") || strings.Contains(page, "NaN") {
		t.Error("the page has what it should not")
	}
	if page != write(t, full("<b>央行</b> & \"co\"")) {
		t.Error("the same report gives another page")
	}
}

// Texts from outside stay texts.
func TestHostileTexts(t *testing.T) {
	for _, text := range []string{
		"</title><script>alert(1)</script>", `" onmouseover="alert(1)`, `'><img src=x onerror=alert(1)>`, "javascript:alert(1)", "</style><script>",
		"]]><!--", "{{.Model}}", "</svg><svg onload=alert(1)>", "\u202eevil", "\x00\x07", "\xff\xfe", strings.Repeat("长", 5000), "-->", "&lt;script&gt;",
	} {
		page := write(t, full(text))
		check(t, sane(page))
		if strings.Contains(page, "<script") || strings.Contains(page, "<img") || strings.Count(page, "<svg") != 6 {
			t.Errorf("%q got through", text)
		}
	}
}

// sane replaces what HTML takes and XML does not.
func sane(page string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0xfffd {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(page, "?"))
}

// Reports of earlier versions of galley lack fields; those of large models are
// cut.
func TestSparseAndLarge(t *testing.T) {
	check(t, write(t, &evals.Report{Ref: "desk@1"}))
	wide := full("x")
	wide.Labels, wide.Confusion, wide.Slices, wide.Confused = nil, &evals.Confusion{}, nil, nil
	for i := range 10_000 {
		wide.Labels = append(wide.Labels, evals.LabelScore{Label: fmt.Sprint("label ", i), N: i, F1: float64(i) / 1e4})
	}
	for i := range evals.MaxConfusionLabels {
		wide.Confusion.Labels = append(wide.Confusion.Labels, strings.Repeat("长", i%10))
		wide.Confusion.Counts = append(wide.Confusion.Counts, slices.Repeat([]int{i}, evals.MaxConfusionLabels))
	}
	for i := range 300 {
		wide.Slices = append(wide.Slices, evals.Slice{Name: fmt.Sprint("language=", i), N: 1, Metrics: map[string]evals.Metric{evals.Accuracy: metric(.5, 1)}})
	}
	page := write(t, wide)
	check(t, page)
	if len(page) > 8<<20 || !strings.Contains(page, "The 100 labels with the lowest F1, of 10000") || !strings.Contains(page, "The first 60 of 300 slices") {
		t.Errorf("%d bytes", len(page))
	}
	ragged := full("x")
	ragged.Confusion.Counts = [][]int{{1}, {1, 2, 3, 4, 5}, nil}
	ragged.LatencyMS.Histogram = []evals.Bucket{{N: 3}}
	ragged.Calibration = []evals.Bin{{}}
	check(t, write(t, ragged))
}

// Whatever a report says, its page is whole, and each coordinate is a number.
func FuzzWrite(f *testing.F) {
	var b bytes.Buffer
	whole, err := full("x").Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"metrics":{"accuracy":{"value":1e308,"low":-1e308,"high":1e308,"n":3}},"latency_ms":{"histogram":[{"from_ms":1e-300,"to_ms":1e300,"n":-1}]}}`))
	f.Add([]byte(`{"calibration":[{"n":-1,"confidence":-5}],"slices":[{"name":"<","metrics":{"accuracy":{"value":7,"n":1}}}]}`))
	f.Add([]byte(`{"robustness":{"perturbations":[{"n":1}]},"baselines":[{"slices":[{}]},{"disagreements":{"only_model":[{}]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := evals.DecodeReport(bytes.NewReader(data))
		if err != nil {
			return
		}
		b.Reset()
		if err := Write(&b, r); err != nil {
			t.Fatal(err)
		}
		check(t, sane(b.String()))
		if found := regexp.MustCompile(`(?:x|y|x1|x2|y1|y2|cx|cy|r|width|height|viewBox|d)="[^"]*(?:NaN|Inf)`).FindString(b.String()); found != "" {
			t.Fatalf("%q", found)
		}
	})
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		from, to float64
		want     string
	}{
		{0, 1, "0 20 40 60 80 100"}, {-.052, .21, "−5 0 5 10 15 20"}, {.83, .85, "83 83.5 84 84.5 85"}, {.5, .5, ""}, {0, math.Inf(1), ""}, {math.NaN(), 1, ""},
	} {
		var got []string
		for _, tick := range (scale{c.from, c.to, 0, 100}).ticks(6, .01) {
			got = append(got, tick.Label)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v to %v: %v, want %s", c.from, c.to, got, c.want)
		}
	}
	for _, c := range []struct {
		from, to float64
		want     string
	}{{.7, 9, "1 2 5"}, {.1, 1000, "0.1 1 10 100 1000"}, {1.2, 5.5, "1.5 2 3 4 5"}} {
		var got []string
		for _, tick := range logTicks(scale{math.Log(c.from), math.Log(c.to), 0, 100}) {
			got = append(got, tick.Label)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v to %v: %v, want %s", c.from, c.to, got, c.want)
		}
	}
}

// Ticks are few, in order and on the scale.
func TestTicksProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Float64Range(-1, 1).Draw(t, "from")
		to := from + rapid.Float64Range(1e-3, 2).Draw(t, "span")
		ticks := scale{from, to, 0, 500}.ticks(8, .01)
		if len(ticks) < 3 || len(ticks) > 10 {
			t.Fatalf("%d ticks from %v to %v", len(ticks), from, to)
		}
		for i, tick := range ticks {
			if tick.At < -1e-6 || tick.At > 500+1e-6 || i > 0 && tick.At <= ticks[i-1].At {
				t.Fatalf("%+v", ticks)
			}
		}
	})
}

// What the file system says is not made the page's fault.
func TestWriteError(t *testing.T) {
	full := errors.New("no room")
	if err := Write(failing{full}, &evals.Report{}); !errors.Is(err, full) || galley.CodeOf(err) != galley.Unknown {
		t.Errorf("%v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestShort(t *testing.T) {
	for _, c := range [][2]string{{"abcdef", "abcd…"}, {"央行维持", "央行…"}, {"abcd", "abcd"}, {"", ""}, {"a央行", "a央…"}} {
		if got := short(c[0], 4); got != c[1] {
			t.Errorf("%q became %q", c[0], got)
		}
	}
}

// The page needs no file of its own: what is in templates is all.
func TestTemplatesHoldNoAddresses(t *testing.T) {
	files, err := filepath.Glob("templates/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if regexp.MustCompile(`(?i)https?:|url\(|@import|<script`).Match(data) {
			t.Errorf("%s names something outside", path)
		}
	}
}
