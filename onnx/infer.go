package onnx

import (
	"errors"
	"maps"

	"galley"
)

// InferShapes finds the types and shapes of all values of the main graph from
// its inputs, initializers and declared values. Symbolic dimensions are
// carried along, and integers that serve as shapes are computed as far as
// they are known.
//
// An operator that has no rule here leaves its outputs unknown. Inputs that
// an operator cannot take together, and declared shapes that contradict the
// inferred ones, are errors of code InvalidArgument that name node and
// shapes. The model must pass Check.
func InferShapes(m *Model) (*Types, error) {
	in := &inference{opsets: m.Opsets}
	return in.graph(m.Graph, nil, 0)
}

// maxRank bounds the dimensions of a tensor.
const maxRank = 32

// maxGraphDepth bounds how deeply subgraphs are entered.
const maxGraphDepth = 64

// An inference walks the graphs of one model.
type inference struct {
	opsets map[string]int64
}

// graph infers the values of g; outer holds the values visible from the
// graphs around it.
func (in *inference) graph(g *Graph, outer *Types, depth int) (*Types, error) {
	if depth > maxGraphDepth {
		return nil, invalid("graph "+quote(g.Name), "subgraphs nest deeper than %d", maxGraphDepth)
	}
	t := &Types{values: make(map[string]*inferred, len(g.Inputs)+len(g.Initializers)+len(g.Nodes)), outer: outer}
	for _, v := range g.Inputs {
		t.define(&inferred{Value: v})
	}
	for _, w := range g.Initializers {
		t.define(constant(w.Name, w))
	}
	declared := make(map[string]Value, len(g.Values)+len(g.Outputs))
	for _, v := range g.Values {
		declared[v.Name] = v
	}
	for _, v := range g.Outputs {
		if before, ok := declared[v.Name]; ok {
			if merged, err := mergeValues(v, before); err == nil {
				v = merged
			}
		}
		declared[v.Name] = v
	}
	for _, n := range g.Nodes {
		c := &inferContext{Node: n, in: in, scope: t, opset: in.opsets[n.Domain], depth: depth}
		for _, name := range n.Outputs {
			c.outs = append(c.outs, &inferred{Value: Value{Name: name}})
		}
		if rule, ok := inferRules[opKey{n.Domain, n.Op}]; ok && len(n.Outputs) > 0 {
			if err := rule(c); err != nil {
				return nil, inNode(n, err)
			}
		}
		for _, out := range c.outs {
			if out.Name == "" {
				continue
			}
			if len(out.Shape) > maxRank {
				return nil, invalid(n.label(), "output %s has %d dimensions, more than %d", quote(out.Name), len(out.Shape), maxRank)
			}
			if want, ok := declared[out.Name]; ok {
				merged, err := mergeValues(out.Value, want)
				if err != nil {
					return nil, inNode(n, err)
				}
				out.Value = merged
			}
			t.define(out)
		}
	}
	return t, nil
}

// inNode makes err an error about node n, unless it names one already.
func inNode(n *Node, err error) error {
	var e *galley.Error
	if errors.As(err, &e) {
		return err
	}
	return invalid(n.label(), "%v", err)
}

// constant is what is known of a tensor.
func constant(name string, t *Tensor) *inferred {
	return &inferred{
		Value: Value{Name: name, Type: t.Type, Shape: t.Shape()},
		from:  t, lazy: follows(t.Type),
	}
}

// An opKey names an operator.
type opKey struct{ domain, op string }

// An inferRule finds the types and shapes of a node's outputs from its
// inputs. What it leaves unset is unknown; its errors need not name the node.
type inferRule func(*inferContext) error

// inferRules holds all rules. Each family has its own file.
var inferRules = joinRules(
	elementwiseRules, matrixRules, shapeRules, sliceRules, reduceRules,
	constantRules, convolutionRules, normalizationRules, lossRules, quantizeRules,
	recurrentRules,
)

// A ruleSet is the rules of one family: operators of the standard domain by
// name, others as "domain.Name".
type ruleSet map[opKey]inferRule

func joinRules(sets ...ruleSet) ruleSet {
	all := ruleSet{}
	for _, s := range sets {
		maps.Copy(all, s)
	}
	return all
}

// std and ms key rules of the standard domain and of com.microsoft.
func std(op string) opKey { return opKey{"", op} }
func ms(op string) opKey  { return opKey{"com.microsoft", op} }

// onEach gives each of the operators the same rule.
func onEach(rule inferRule, ops ...opKey) ruleSet {
	s := make(ruleSet, len(ops))
	for _, op := range ops {
		s[op] = rule
	}
	return s
}
