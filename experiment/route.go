package experiment

import "time"

// A Route says where requests of one model go while an experiment runs, or
// after its end while its hold lasts. It does not change: new shares are a new
// route with the same meters.
type Route struct {
	Experiment uint32
	Name       string
	Versions   [2]int
	Guards     Guards
	Meters     [2]*Meter // by arm; nil for a hold
	Number     uint8     // of the stage
	Shadow     *Shadow   // the treatment is asked beside the control
	Due        time.Time // when the treatment may get more; zero for never

	held  bool
	stage Stage
	salt  []byte
}

// NewRoute returns the route of an experiment; meters are those of its former
// route, if it had one.
func NewRoute(e Experiment, former *Route) *Route {
	r := &Route{
		Experiment: uint32(e.ID), Name: e.Name, Versions: e.Versions, Guards: e.Guards,
		Shadow: e.Shadow, Number: uint8(len(e.Stages) - 1), stage: e.Stage(), salt: e.Salt, held: e.State != Running,
	}
	_, r.Due, _ = e.Next()
	switch {
	case r.held:
	case former != nil && former.Experiment == r.Experiment && former.Meters[Control] != nil:
		r.Meters = former.Meters
	default:
		r.Meters = [2]*Meter{NewMeter(e.Guards.Window), NewMeter(e.Guards.Window)}
	}
	return r
}

// Held is the route that keeps all traffic on control.
func (r *Route) Held() *Route {
	held := *r
	held.held = true
	return &held
}

// Live reports whether the experiment runs, and its answers count.
func (r *Route) Live() bool { return !r.held }

// An Assignment is which arm a request goes to. The zero one is that of a
// request outside of experiments.
type Assignment struct {
	Route *Route
	Arm   Arm
	Place uint64
}

// Assign returns the arm of a request: that of its key, or of chance without
// one. random is a number by chance.
func (r *Route) Assign(key string, random uint64) Assignment {
	if r.held {
		return Assignment{} // its answers count for nothing
	}
	place := random
	if key != "" {
		place = PlaceOf(r.salt, key)
	}
	return Assignment{r, r.stage.Arm(place), place}
}

// Split reports whether the request's answer is one of an arm's, for which
// outcomes count.
func (a Assignment) Split() bool { return a.Route != nil && a.Route.Shadow == nil }

// Shadowed reports whether the treatment is to be asked, too.
func (a Assignment) Shadowed() bool {
	if a.Route == nil || a.Route.Shadow == nil {
		return false
	}
	return Stage{Treatment: a.Route.Shadow.Share}.Arm(a.Place) == Treatment
}

// Observe counts the end of the assigned request.
func (a Assignment) Observe(now time.Time, took time.Duration, failed, empty bool) {
	if a.Route != nil {
		a.Route.Meters[a.Arm].Observe(now, took, failed, empty)
	}
}

// Figures returns what both arms did in the window that ends now.
func (r *Route) Figures(now time.Time) (f [2]Figures) {
	for _, arm := range Arms {
		f[arm] = r.Meters[arm].Read(now)
	}
	return f
}
