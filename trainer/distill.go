package trainer

import (
	"fmt"
	"slices"
	"strings"

	"galley"
)

// MaxTeachers bounds the teachers of a student.
const MaxTeachers = 8

// Distill is what a job of kind Distill has beside data and recipe: a student
// learns what its teachers answer (Hinton, Vinyals and Dean, 2015).
//
// The loss of a row is Alpha·T²·KL(teachers_T ‖ student_T) + (1-Alpha)·hard,
// where T is Temperature, the teachers' probabilities at T are averaged, and
// hard is the cross-entropy with the row's label, which Recipe smooths and
// weighs as it does for kind Train. HiddenLoss adds a term of its own.
type Distill struct {
	Teachers    []string `yaml:"teachers" json:"teachers,omitempty"` // versions
	Student     Student  `yaml:"student" json:"student,omitzero"`
	Temperature float64  `yaml:"temperature" json:"temperature,omitempty"`
	Alpha       float64  `yaml:"alpha" json:"alpha,omitempty"`
	// HiddenLoss weighs the mean squared difference between the first teacher's
	// hidden state and a learnt projection of the student's; 0 for none.
	HiddenLoss float64 `yaml:"hidden_loss" json:"hidden_loss,omitempty"`
}

// Student is the network that a job of kind Distill trains.
type Student struct {
	From string `yaml:"from" json:"from,omitempty"` // a version, or an .onnx file, to go on from
	Model
}

// Start is what the job's network goes on from, "" for a new one.
func (s Spec) Start() string {
	if s.Kind == KindDistill {
		return s.Student.From
	}
	return s.From
}

// StartPath is where the job file names Start.
func (s Spec) StartPath() string {
	if s.Kind == KindDistill {
		return "student.from"
	}
	return "from"
}

// Architecture is that of the network that the job trains.
func (s Spec) Architecture() Model {
	if s.Kind == KindDistill {
		return s.Student.Model
	}
	return s.Model
}

// section is where the job file describes Architecture.
func (s Spec) section() string {
	if s.Kind == KindDistill {
		return "student"
	}
	return "model"
}

// distill checks what only jobs of kind Distill have.
func (c *checker) distill(s Spec) {
	if s.Task != "" && s.Task != TextClassification {
		c.wrong("task", "write task: "+TextClassification, "%s cannot be distilled", galley.Clip(s.Task, 80))
	}
	if n := len(s.Teachers); n == 0 || n > MaxTeachers {
		message := "is missing"
		if n > 0 {
			message = fmt.Sprintf("names %d teachers", n)
		}
		c.wrong("teachers", fmt.Sprintf("name 1 to %d versions, as in teachers: [news-topic@3]", MaxTeachers), "%s", message)
		return
	}
	for i, teacher := range s.Teachers {
		switch _, err := galley.ParseRef(teacher); {
		case strings.HasSuffix(teacher, ".onnx"):
			c.wrong("teachers", "import it first: galley models import FILE.onnx --name NAME --task "+TextClassification, "%q is a file", galley.Clip(teacher, 80))
		case err != nil:
			c.wrong("teachers", "write a version, as in news-topic@3 or news-topic:prod", "%q is not a model", galley.Clip(teacher, 80))
		case slices.Contains(s.Teachers[:i], teacher):
			c.wrong("teachers", "name it once", "%s is named twice", teacher)
		}
	}
	if s.Data.Unlabelled != "" {
		c.coded("data.unlabelled", checkDataset(s.Data.Unlabelled))
	}
}
