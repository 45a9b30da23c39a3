// Package probe loads a model and runs it once in a process of its own, with
// bounds on time and memory, before a server does: a graph from elsewhere that
// crashes the runtime, hangs or takes all memory costs a load, not the server.
//
//	server                          child: `galley probe`
//	Prober.Check --request, stdin-> Main -> open, run once over zeros
//	             <-verdict, stdout-
//
// The parent keeps stdin open; its end tells the child that the parent is
// gone. A child that ends without a verdict has crashed.
package probe
