package trainer

// quantizeDriver is the name of the driver that runs jobs of kind Quantize.
const quantizeDriver = "quantize"

// Quantize is what a job of kind Quantize has beside the name of its result
// and the version, From, that it makes smaller.
type Quantize struct {
	Method      string      `yaml:"method" json:"method,omitempty"`
	Calibration Calibration `yaml:"calibration" json:"calibration,omitzero"`
	MaxDrop     float64     `yaml:"max_drop" json:"max_drop,omitempty"` // of accuracy, against From
}

// Calibration names the texts that ranges of activations are measured on.
type Calibration struct {
	Dataset string `yaml:"dataset" json:"dataset,omitempty"` // name or name@version
	Rows    int    `yaml:"rows" json:"rows,omitempty"`
}

// defaultQuantize returns what a job file of kind Quantize leaves out.
func defaultQuantize() Spec {
	return Spec{APIVersion: APIVersion, Kind: KindQuantize, Resources: Resources{CPUs: 2}, Priority: 50, Retries: 2}
}

// quantize checks what only jobs of kind Quantize have.
func (c *checker) quantize(s Spec) {
	if s.From == "" {
		c.wrong("from", "name a version, as in from: news-topic@3", "is missing")
	}
}

// quantizeMemory is the memory that an attempt is estimated to need: the
// graph before and after, with a session each.
func (s Spec) quantizeMemory(parent int64) int64 { return runtimeMemory + 4*parent }
