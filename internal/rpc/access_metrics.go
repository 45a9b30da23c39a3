package rpc

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// accessCounts is what an Access has turned away.
type accessCounts struct {
	unknown atomic.Int64 // no live token
	limited atomic.Int64 // too many failed attempts of an address
	refused atomic.Int64 // a known caller that may not
}

// WatchAccess adds counters of who was turned away, and when the next token
// expires.
func (m *Metrics) WatchAccess(a *Access) {
	for reason, n := range map[string]*atomic.Int64{"unauthenticated": &a.counts.unknown, "limited": &a.counts.limited, "refused": &a.counts.refused} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "galley_access_denied", ConstLabels: prometheus.Labels{"reason": reason},
			Help: "Requests that were turned away: unauthenticated without a live token, limited after too many of those, refused to a known caller.",
		}, func() float64 { return float64(n.Load()) }))
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "galley_token_next_expiry_seconds",
		Help: "When the next live token expires that was not rotated, in seconds since 1970; 0 if none does.",
	}, func() float64 {
		if at := a.tokens.NextExpiry(); !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	}))
}
