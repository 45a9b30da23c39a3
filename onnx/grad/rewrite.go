package grad

// rewriteForward gives the forward graph the forms that are fast to
// differentiate.
func (d *differentiator) rewriteForward() {}
