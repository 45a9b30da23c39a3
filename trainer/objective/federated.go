package objective

import (
	"galley"
	"galley/onnx"
	"galley/onnx/grad"
)

// Federated returns the initializers of a classifier's graph that partners
// train and exchange, in the graph's order: those that a gradient of the loss
// reaches. They are the graph's own, so that writing to them changes it. What
// is left out is the same for all partners, and training leaves it as it is:
// how n-grams are weighed, how branches are blended, constants of formulas.
//
// A graph of the same structure has the same ones: coordinator and partners
// each find them by themselves. A graph that cannot be federated is refused
// with InvalidArgument; the subject is the field `from` of a job file.
func Federated(m *onnx.Model) ([]*onnx.Tensor, error) {
	refuse := func(remedy, format string, args ...any) ([]*onnx.Tensor, error) {
		return nil, galley.Errorf(galley.InvalidArgument, "from", format, args...).WithRemedy("%s", remedy)
	}
	for _, t := range m.Graph.Initializers {
		if t.Size() > 1 && narrow(t.Type) {
			return refuse("name the version that it was made of: weights that are federated are float",
				"has the weight %q of type %s", galley.Clip(t.Name, 80), t.Type)
		}
	}
	const train = "train a classifier from it first, with kind: Train, and federate that"
	training, err := Classification(m, 0)
	if err != nil {
		return refuse(train, "is no classifier of galley's: %s", galley.AsError(err).Message)
	}
	if training, _, err = grad.TrainingDropout(training); err != nil {
		return nil, err
	}
	names := Trainable(m)
	if len(names) == 0 {
		return refuse(train, "has no weights to train")
	}
	gradients, err := grad.Differentiate(training, grad.Options{Loss: Loss, Wrt: names})
	if err != nil {
		return nil, err
	}
	var weights []*onnx.Tensor
	for _, name := range names {
		if _, reached := gradients.Gradients[name]; reached {
			weights = append(weights, m.Graph.Initializer(name))
		}
	}
	if len(weights) == 0 {
		return refuse(train, "has no weights that its loss depends on")
	}
	return weights, nil
}

// narrow reports whether weights of a type have fewer bits than training needs.
func narrow(t onnx.DataType) bool {
	switch t {
	case onnx.Float, onnx.Double, onnx.Int32, onnx.Int64, onnx.Uint32, onnx.Uint64, onnx.Bool, onnx.String:
		return false
	}
	return true
}
