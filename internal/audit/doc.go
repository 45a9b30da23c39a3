// Package audit makes a log tamper-evident. It is pure: where the log lies,
// who signs it and what time it is come in as values.
//
// Each entry has a digest that covers its own fields and the digest of the
// entry before it, so one digest, the last, stands for the whole log. A [Head]
// is the number of entries and that digest; kept where the log is not, it
// shows any entry of then that was altered, dropped, reordered, inserted or
// cut off since. The platform signs its heads, so that who keeps one can show
// others whose it is.
//
// An entry is hashed as the following bytes; numbers are big-endian, a text
// is the number of its bytes in eight bytes, and its bytes:
//
//	text    "galley-audit/1"
//	32 B    digest of the entry before, zeros for the first
//	8 B     number, from 1
//	8 B     time, nanoseconds since 1970 UTC
//	texts   actor, action, subject, detail, address, token
package audit
