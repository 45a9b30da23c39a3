package rpc

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/types/known/structpb"

	newsroompb "galley/api/newsroom/v1"

	"galley"
)

// Feedback attaches an outcome to a prediction.
func (n *Newsroom) Feedback(ctx context.Context, r *newsroompb.FeedbackRequest) (*newsroompb.FeedbackResponse, error) {
	outcome, err := outcomeOf(r.GetOutcome())
	if err != nil {
		return nil, statusOf(err)
	}
	f, err := n.control.Feedback(ctx, r.GetPredictionId(), outcome)
	if err != nil {
		return nil, statusOf(err)
	}
	out := &newsroompb.FeedbackResponse{PredictionId: r.GetPredictionId(), Experiment: f.Experiment, State: string(f.State)}
	if f.Experiment != "" {
		out.Arm = f.Arm.String()
	}
	return out, nil
}

// outcomeOf writes an outcome of JSON as text.
func outcomeOf(v *structpb.Value) (string, error) {
	switch v := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return v.StringValue, nil
	case *structpb.Value_BoolValue:
		return strconv.FormatBool(v.BoolValue), nil
	case *structpb.Value_NumberValue:
		return strconv.FormatFloat(v.NumberValue, 'g', -1, 64), nil
	default:
		return "", galley.Errorf(galley.InvalidArgument, "outcome", "is missing, or neither a text, a number nor true or false").
			WithRemedy("send what became of the prediction: true, false, a number from 0 to 1, or the right label")
	}
}
