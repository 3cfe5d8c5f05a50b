// The benches' client of nats.go. It takes the orders of tests/bench/client.c, whose first comment
// says what they are, and answers as that one does; it does not offer.
// usage: bench_nats_go URL NAME [stock]
package main

import (
	"bytes"
	"fmt"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	wait            = 30 * time.Second // what lasts longer is an error; all of this the same in all clients
	pendingMessages = 524288           // of a subscription
	pendingBytes    = 64 << 20
	reconnectWait   = 10 * time.Millisecond
	parked          = 10 * time.Minute // of what is to be there, and not to happen
)

type order struct {
	count    int
	value    int
	subject  string
	subjects int
	data     []byte
}

type result struct {
	count     int64
	took      time.Duration
	latencies []time.Duration
}

// One of the subscriptions that are measured. Its handler alone writes the counter.
type target struct {
	sub      *nats.Subscription
	received int64
}

var (
	nc      *nats.Conn
	targets []*target
)

func subscribe(o order) (result, error) {
	for _, t := range targets {
		t.sub.Unsubscribe()
	}
	targets = nil
	for i := 0; i < o.subjects; i++ {
		t := &target{}
		sub, err := nc.Subscribe(fmt.Sprintf("%s.%d", o.subject, i), func(*nats.Msg) {
			atomic.StoreInt64(&t.received, atomic.LoadInt64(&t.received)+1)
		})
		if err != nil {
			return result{}, err
		}
		if err := sub.SetPendingLimits(pendingMessages, pendingBytes); err != nil {
			return result{}, err
		}
		t.sub = sub
		targets = append(targets, t)
	}
	return result{count: int64(len(targets))}, nc.FlushTimeout(wait)
}

func received(order) (result, error) {
	var r result
	for _, t := range targets {
		r.count += atomic.LoadInt64(&t.received)
	}
	return r, nil
}

func publish(o order) (result, error) {
	r := result{count: int64(o.count)}
	begun := time.Now()
	before := begun
	for batch := 0; batch < o.count/o.value; batch++ {
		for i := 0; i < o.value; i++ {
			if err := nc.Publish(o.subject, o.data); err != nil {
				return r, err
			}
		}
		if err := nc.FlushTimeout(wait); err != nil {
			return r, err
		}
		after := time.Now()
		r.latencies = append(r.latencies, after.Sub(before))
		before = after
	}
	r.took = before.Sub(begun)
	return r, nil
}

func request(o order) (result, error) {
	r := result{count: int64(o.count), latencies: make([]time.Duration, o.count)}
	var next int64
	var lanes sync.WaitGroup
	failures := make(chan error, o.value)
	begun := time.Now()
	for lane := 0; lane < o.value; lane++ {
		lanes.Add(1)
		go func() {
			defer lanes.Done()
			for i := atomic.AddInt64(&next, 1) - 1; i < int64(o.count); i = atomic.AddInt64(&next, 1) - 1 {
				before := time.Now()
				if _, err := nc.Request(o.subject, o.data, wait); err != nil {
					failures <- err
					return
				}
				r.latencies[i] = time.Since(before)
			}
		}()
	}
	lanes.Wait()
	r.took = time.Since(begun)
	select {
	case err := <-failures:
		return r, err
	default:
		return r, nil
	}
}

func answer(o order) (result, error) {
	for i := 0; i < o.subjects; i++ {
		_, err := nc.Subscribe(fmt.Sprintf("%s.%d", o.subject, i), func(m *nats.Msg) {
			m.Respond(m.Data)
		})
		if err != nil {
			return result{}, err
		}
	}
	return result{count: int64(o.subjects)}, nc.FlushTimeout(wait)
}

func connect() (*nats.Conn, error) {
	options := []nats.Option{nats.Name(os.Args[2]), nats.MaxReconnects(-1)}
	if len(os.Args) < 4 || os.Args[3] != "stock" {
		options = append(options, nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(0, 0))
	}
	return nats.Connect(os.Args[1], options...)
}

func connectMore(o order) (result, error) {
	for i := 0; i < o.count; i++ {
		if _, err := connect(); err != nil {
			return result{}, err
		}
	}
	return result{count: int64(o.count)}, nil
}

func park(o order) (result, error) {
	for i := 0; i < o.count; i++ {
		go nc.Request(o.subject, nil, parked)
	}
	return result{count: int64(o.count)}, nc.FlushTimeout(wait)
}

func timers(o order) (result, error) {
	for i := 0; i < o.count; i++ {
		time.AfterFunc(parked, func() {})
	}
	return result{count: int64(o.count)}, nil
}

var operations = map[string]func(order) (result, error){
	"subscribe": subscribe, "received": received, "publish": publish, "request": request,
	"answer": answer, "connect": connectMore, "park": park, "timers": timers,
}

func perform(data []byte) string {
	var name string
	var o order
	parts := bytes.SplitN(data, []byte("\n"), 2)
	_, err := fmt.Sscan(string(parts[0]), &name, &o.count, &o.value, &o.subject, &o.subjects)
	if err != nil || len(parts) < 2 || operations[name] == nil {
		return fmt.Sprintf("error: %q is no order", parts[0])
	}
	o.data = parts[1]
	r, err := operations[name](o)
	if err != nil {
		return fmt.Sprintf("error: %s: %v", name, err)
	}
	text := fmt.Sprintf("%d %.9f", r.count, r.took.Seconds())
	sort.Slice(r.latencies, func(a, b int) bool { return r.latencies[a] < r.latencies[b] })
	for _, part := range []float64{0.5, 0.99, 0.999} {
		var seconds float64
		if n := len(r.latencies); n > 0 {
			seconds = r.latencies[int(part*float64(n))].Seconds()
		}
		text += fmt.Sprintf(" %.9f", seconds)
	}
	return text
}

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench_nats_go: %s: %v\n", what, err)
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: bench_nats_go URL NAME [stock]")
		os.Exit(2)
	}
	var err error
	nc, err = connect()
	check(err, "connect")
	// Orders are carried out beside the library's own work: requests want its reader.
	orders, err := nc.SubscribeSync("bench." + os.Args[2])
	check(err, "subscribe")
	for {
		m, err := orders.NextMsg(24 * time.Hour) // the bench ends this process
		check(err, "an order")
		text := perform(m.Data)
		check(m.Respond([]byte(text)), "an answer")
	}
}
