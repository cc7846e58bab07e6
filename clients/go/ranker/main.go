// A ranker: reads the answers of the scorer, and chooses the ad with the highest click probability.
//
//	ranker [IDLE]
//
// It ends when no answer came for IDLE (such as 5s); without it, at SIGTERM. KAFKA_BROKERS, ANSWER_TOPIC, GROUP and
// START_AT (latest or earliest) replace the defaults.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"math"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const keptOrigins = 100_000 // more than a crash of the scorer can repeat

// Origin is the place of a request's record.
type Origin struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// Answer has the fields that a ranker needs; others are ignored.
type Answer struct {
	RequestID string    `json:"request_id"`
	Status    string    `json:"status"`
	Reason    string    `json:"reason"`
	AdID      []string  `json:"ad_id"`
	CTR       []float64 `json:"ctr"`
	Source    []string  `json:"source"`
	Origin    Origin    `json:"origin"`
}

// Origins are those of the latest answers: an answer with a known one is a duplicate.
type Origins struct {
	known map[Origin]bool
	order []Origin // a ring
	next  int
}

// IsNew says whether the origin was not seen, and remembers it.
func (o *Origins) IsNew(origin Origin) bool {
	if o.known[origin] {
		return false
	}
	if len(o.order) < keptOrigins {
		o.order = append(o.order, origin)
	} else {
		delete(o.known, o.order[o.next])
		o.order[o.next] = origin
		o.next = (o.next + 1) % keptOrigins
	}
	o.known[origin] = true
	return true
}

// lateMs are the milliseconds after the deadline; below 0: in time. Bidder and ranker need synchronous clocks.
func lateMs(record *kgo.Record) int64 {
	headers := map[string]float64{}
	for _, header := range record.Headers {
		if number, err := strconv.ParseFloat(string(header.Value), 64); err == nil {
			headers[header.Key] = number
		}
	}
	sentAt, deadline := headers["sent_at_ms"], headers["deadline_ms"]
	if sentAt == 0 || deadline == 0 {
		return 0
	}
	return time.Now().UnixMilli() - int64(math.Round(sentAt+deadline))
}

// best is the ad with the highest score; nil without scores.
func best(answer Answer) *string {
	switch answer.Status {
	case "ok", "partial", "fallback":
		// Source says which scores are priors: all of a fallback's, some of a partial answer's.
		first := 0
		for i, ctr := range answer.CTR {
			if ctr > answer.CTR[first] {
				first = i
			}
		}
		return &answer.AdID[first]
	case "expired": // too late to score
	case "invalid":
		log.Printf("%s: %s", answer.RequestID, answer.Reason) // a fault of the bidder
	default:
		log.Printf("%s: unknown status %s", answer.RequestID, answer.Status) // a newer scorer
	}
	return nil
}

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	idle := time.Duration(math.MaxInt64)
	if len(os.Args) > 1 {
		var err error
		if idle, err = time.ParseDuration(os.Args[1]); err != nil {
			log.Fatal(err)
		}
	}
	start := kgo.NewOffset().AtEnd() // of a new group
	if os.Getenv("START_AT") == "earliest" {
		start = kgo.NewOffset().AtStart()
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(variable("KAFKA_BROKERS", "localhost:9092"), ",")...),
		kgo.ConsumerGroup(variable("GROUP", "rankers")),
		kgo.ConsumeTopics(variable("ANSWER_TOPIC", "ctr-scores")),
		kgo.ConsumeResetOffset(start),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // the default reads aborted transactions, too
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	origins := Origins{known: map[Origin]bool{}}
	statuses := map[string]int{}
	duplicates, late := 0, 0
	patience := time.Duration(math.MaxInt64) // until the first answer
	for {
		waiting, cancel := context.WithTimeout(ctx, patience)
		fetches := client.PollFetches(waiting)
		cancel()
		if fetches.Empty() && waiting.Err() != nil {
			break // idle, or stopped
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				log.Printf("%s/%d: %v", topic, partition, err) // franz-go retries by itself
			}
		})
		fetches.EachRecord(func(record *kgo.Record) {
			patience = idle
			var answer Answer
			err := json.Unmarshal(record.Value, &answer)
			if err != nil || answer.Origin.Topic == "" { // a binary answer, or another program's record
				log.Printf("%d/%d: no answer in JSON: %v", record.Partition, record.Offset, err)
				return
			}
			if !origins.IsNew(answer.Origin) {
				duplicates++
				return
			}
			after := lateMs(record)
			if after > 0 {
				late++
			}
			statuses[answer.Status]++
			printLine(map[string]any{"request_id": answer.RequestID, "late_ms": after, "best": best(answer)})
		})
	}
	printLine(map[string]any{"answers": statuses, "duplicates": duplicates, "late": late})
}

func printLine(line map[string]any) {
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

func variable(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
