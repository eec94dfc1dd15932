package kmsapi

// AdvancePath is where a service with a simulated clock takes the action
// OpAdvanceClock, which is none of AWS's. It is spoken as the others are, with
// AdvanceInput and AdvanceOutput.
const (
	AdvancePath    = "/kmsfs/advance"
	OpAdvanceClock = "AdvanceClock"
)

// MaxAdvanceDays bounds one step of a simulated clock: ten years.
const MaxAdvanceDays = 3660

// AdvanceInput says how far to move a simulated clock.
type AdvanceInput struct {
	Seconds int64
}

// AdvanceOutput is what happened on the way.
type AdvanceOutput struct {
	Time   float64 // the clock now, in seconds since the epoch
	Events []LifecycleEvent
}

// What LifecycleEvent.Event says.
const (
	EventDeleted = "deleted"
	EventRotated = "rotated"
)

// LifecycleEvent is something that befell a key because its time had come.
type LifecycleEvent struct {
	Date  float64
	KeyID string `json:"KeyId"`
	Event string
}
