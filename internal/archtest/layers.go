// Package archtest holds the shape of the house: which package may import
// which. The table below is the design; the test beside it reads the imports.
package archtest

// A layer numbers a package's floor: imports go down only.
type layer int

// layers places every package of the module. A path ending in "/..." places
// all below it that have no line of their own.
var layers = map[string]layer{
	"galley":         0,
	"galley/api/...": 0, // generated wire types

	"galley/onnx":                1,
	"galley/onnx/grad":           1,
	"galley/onnx/session":        1,
	"galley/feature/text":        1,
	"galley/dataset":             1,
	"galley/scheduler":           1,
	"galley/task":                1,
	"galley/internal/audit":      1,
	"galley/internal/auth":       1,
	"galley/internal/backup":     1,
	"galley/internal/durable":    1,
	"galley/internal/faults":     1, // of tests
	"galley/internal/kernel":     1,
	"galley/internal/parquet":    1,
	"galley/internal/processors": 1,
	"galley/internal/strictyaml": 1,
	"galley/examples/headlines":  1,
	"galley/examples/jobs":       1,
	"galley/examples/peers":      1,

	"galley/distill":                   2,
	"galley/evals":                     2,
	"galley/evals/baseline":            2,
	"galley/evals/page":                2,
	"galley/evals/perturb":             2,
	"galley/federation":                2,
	"galley/quantize":                  2,
	"galley/registry":                  2,
	"galley/registry/diff":             2,
	"galley/trainer":                   2,
	"galley/trainer/architecture":      2,
	"galley/trainer/checkpoint":        2,
	"galley/trainer/objective":         2,
	"galley/trainer/engine":            2,
	"galley/trainer/engine/enginetest": 2,
	"galley/trainer/launch":            2,
	"galley/serving":                   2,
	"galley/experiment":                2,

	"galley/internal/ort/...":       3,
	"galley/internal/store":         3, // what the databases share
	"galley/internal/store/...":     3,
	"galley/internal/blob":          3,
	"galley/internal/telemetry":     3,
	"galley/trainer/engine/onnx":    3,
	"galley/trainer/launch/process": 3,
	"galley/internal/control":       4,
	"galley/internal/partner":       4,
	"galley/internal/rpc":           4,
	"galley/cmd/galley":             5,
	"galley/internal/archtest":      6, // imports nothing, is imported by nothing
	"galley/docs":                   6, // tests of the pages
}

// within lists the imports inside a layer; there are no others.
var within = map[string][]string{
	"galley/dataset":      {"galley/internal/parquet"},
	"galley/onnx":         {"galley/internal/durable"},
	"galley/onnx/grad":    {"galley/onnx"},
	"galley/onnx/session": {"galley/onnx"},
	"galley/task":         {"galley/onnx", "galley/onnx/session", "galley/feature/text", "galley/dataset", "galley/internal/durable"},

	"galley/distill":                   {"galley/trainer/architecture", "galley/trainer/engine"},
	"galley/evals":                     {"galley/evals/perturb"},
	"galley/evals/baseline":            {"galley/evals"},
	"galley/evals/page":                {"galley/evals"},
	"galley/quantize":                  {"galley/evals", "galley/trainer", "galley/trainer/engine"},
	"galley/registry":                  {"galley/evals"},
	"galley/registry/diff":             {"galley/registry"},
	"galley/trainer":                   {"galley/evals"},
	"galley/trainer/objective":         {"galley/trainer", "galley/trainer/architecture"},
	"galley/trainer/engine":            {"galley/trainer"},
	"galley/trainer/engine/enginetest": {"galley/trainer", "galley/trainer/engine"},
	"galley/trainer/launch":            {"galley/trainer", "galley/trainer/engine"},
	"galley/serving":                   {"galley/registry", "galley/experiment"},

	"galley/internal/ort":         {"galley/internal/ort/library"},
	"galley/internal/ort/orttest": {"galley/internal/ort", "galley/internal/ort/library"},

	"galley/internal/store/sqlite":    {"galley/internal/store"},
	"galley/internal/store/storetest": {"galley/internal/store"},
	// The API's handlers call control's methods; an interface between the two
	// would have twenty methods and one implementation.
	"galley/internal/rpc": {"galley/internal/control"},
}

// confined names modules that one package alone may import, with the reason.
var confined = map[string]struct{ only, why string }{
	"github.com/yalue/onnxruntime_go": {"galley/internal/ort", "the runtime hides behind onnx/session"},
	"modernc.org/sqlite":              {"galley/internal/store/sqlite", "rows hide behind the stores"},
	"go.yaml.in/yaml/v3":              {"galley/internal/strictyaml", "files of people are read strictly"},
	"github.com/spf13/cobra":          {"galley/cmd/galley", "only the command reads flags"},
	"github.com/vbauerster/mpb/v8":    {"galley/cmd/galley", "only the command draws on a terminal"},
}
