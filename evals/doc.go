// Package evals measures models: metrics with 95 % intervals, slices, the
// confusion matrix, latency and resources, all in one [Report].
//
// [Run] streams rows through a [Predictor], and through the baselines it is
// compared with on the same rows. A [Classification] does the counting and
// can be used alone, for validation during training.
//
//	dataset.Rows --> Run --Predictor--> Classification --> Report
//
// Every interval names its method, because they differ:
//
//	accuracy    Wilson's score interval
//	macro_f1    percentile bootstrap: the confusion matrix is drawn again as
//	            a multinomial, which is the same as drawing rows again
//	loss        normal approximation to the mean
//	ece         bootstrap by bins of equal mass: the mean of each bin is drawn
//	            from its normal limit
//	agreement   Wilson's, of the share of rows that two models answer alike
//	difference  of two models on the same rows: Agresti and Min's interval
//	            for matched pairs
//	differences of accuracy and macro_f1: percentiles of the paired bootstrap,
//	            which draws truths with both answers again
//
// Nothing is kept per row, but for a bounded sample: memory depends on labels
// and languages alone.
//
// Beside the version in production a report also has latencies taken in turns
// and their ratios. A [Gate] is rules over a report, as data; [Gate.Judge]
// names every check with its figures.
package evals
