// Package federation trains one model together with partner institutions whose
// texts never leave them: what is agreed, what a round is, how updates become
// the next model.
//
//	Agreement (the partner's file) -> Permits(Offer) on the partner's side
//	Federation -> Advance(Ticked) -> Round: cohort sampled, offers
//	Agent: Consider -> training -> WriteUpdate, clipped -> Answer, signed
//	update -> Inspect -> Submitted
//	-> Step: judged, recorded -> Aggregate -> the next round's base
//
// A Round changes only through Step, a series of rounds only through Advance;
// both are pure functions, and time comes in with the event. What an update is
// refused for is part of the round's record. The package keeps no rows, opens
// no connections and starts nothing.
package federation
