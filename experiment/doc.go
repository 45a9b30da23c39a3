// Package experiment compares two versions of a model on live traffic: an A/B
// test with a verdict that may be looked at whenever one likes.
//
//	request -> Route.Assign: key -> arm, the same for good -> version
//	        -> answer with a signed prediction id (Signer)
//	outcome -> the prediction id says which arm it counts for -> Tally
//	        -> Judge: intervals, verdict, sample-ratio mismatch
//	answers -> Meter: sliding window -> Guards.Judge -> Step(Breached)
//
// An Experiment changes only through Step, a pure function: time and the
// figures of an event come in as values. The package keeps no rows and starts
// nothing; internal/control does.
package experiment
