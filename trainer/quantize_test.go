package trainer

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const quantizeFile = "apiVersion: galley/v1\nkind: Quantize\nname: small\nfrom: news-topic@3\n"

// TestQuantizeFile holds that the shortest file is complete, and that what is
// printed of a file reads as the same spec.
func TestQuantizeFile(t *testing.T) {
	for _, lines := range []string{
		"",
		"task: text-classification\nengine: onnx\ndata: {dataset: news@2}\n",
		"method: static\nweights: {per_channel: false, tables: false, saturation: prevent, block: 64, symmetric: false}\nactivations: {type: int8, symmetric: true}\ncalibration: {ranges: percentile, percentile: 99.9, rows: 64}\nmax_drop: 0\n",
	} {
		s, problems := ParseFile([]byte(quantizeFile+lines), nil)
		if problems != nil {
			t.Fatal(problems)
		}
		if s.Driver() != "quantize" || s.Task != TextClassification || s.Start() != "news-topic@3" || s.MemoryNeed(1<<20) <= s.MemoryNeed(0) {
			t.Errorf("%+v", s)
		}
		text, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, problems := ParseFile(text, nil)
		if problems != nil || !reflect.DeepEqual(again, s) || again.Digest() != s.Digest() {
			t.Errorf("%v\n%s\n%+v\n%+v", problems, text, again, s)
		}
		data, err := json.Marshal(s)
		var stored Spec
		if err != nil || json.Unmarshal(data, &stored) != nil || !reflect.DeepEqual(stored, s) {
			t.Errorf("%s: %+v, not %+v", data, stored, s)
		}
	}
}

func TestQuantizeFileRefused(t *testing.T) {
	for lines, want := range map[string]string{
		"method: int3\n":                                `method: "int3" is not known`,
		"from: \"\"\n":                                  "from: is missing; name a version, as in from: news-topic@3",
		"from: model.onnx\n":                            "from: names a file; import it first: galley models import FILE.onnx",
		"task: text-mlm\n":                              "task: text-mlm models are not quantised",
		"engine: torch\n":                               `engine: "torch" is not known`,
		"max_drop: -1\n":                                "max_drop: -1 is out of range; write a number from 0 to 100",
		"max_drop: much\n":                              "max_drop",
		"calibration: {rows: 0}\n":                      "calibration.rows: 0 is out of range",
		"calibration: {percentile: 7}\n":                "calibration.percentile: 7 is out of range; write a number from 50 to 100",
		"calibration: {ranges: kl}\n":                   `calibration.ranges: "kl" is not known`,
		"calibration: {range: mse}\n":                   "calibration.range",
		"weights: {block: 48}\n":                        "weights.block: 48 is out of range; write 16, 32, 64, 128 or 256",
		"weights: {saturation: no}\n":                   `weights.saturation: "no" is not known`,
		"activations: {type: int16}\n":                  `activations.type: "int16" is not known`,
		"data: {dataset: news, fraction: 0.5}\n":        "data.fraction: goes with kind: Train or Distill, and the file is of kind: Quantize",
		"data: {train: news.csv}\n":                     "data.format: is missing",
		"recipe: {epochs: 2}\n":                         "recipe: goes with kind: Train or Distill",
		"teachers: [a@1]\n":                             "teachers: goes with kind: Distill",
		"model: {layers: 2}\nresources: {cpus: 2000}\n": "resources.cpus: 2000 is out of range",
	} {
		file := quantizeFile
		if strings.HasPrefix(lines, "from:") {
			file = strings.ReplaceAll(file, "from: news-topic@3\n", "")
		}
		_, problems := ParseFile([]byte(file+lines), nil)
		said := ""
		for _, p := range problems {
			said += p.Path + ": " + p.Message + "; " + p.Remedy + "\n"
		}
		if !strings.Contains(said, want) {
			t.Errorf("%q is told\n%s, not %q", lines, said, want)
		}
	}
}
