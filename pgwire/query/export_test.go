package query

// EndIn makes a run look after so many steps, at most 1,024, whether it is to end.
func (r *Run) EndIn(steps int) { r.work = looking - steps }
