// A bidder: sends requests to the scorer, and waits for their answers.
//
//	bidder COUNT
//
// KAFKA_BROKERS, REQUEST_TOPIC, ANSWER_TOPIC and DEADLINE_MS replace the defaults.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const wayBack = 10 * time.Millisecond // after the deadline, an answer may still be on its way

// Answer has the fields that a bidder needs; others are ignored.
type Answer struct {
	RequestID string    `json:"request_id"`
	Status    string    `json:"status"`
	AdID      []string  `json:"ad_id"`
	CTR       []float64 `json:"ctr"`
}

// Bidder is safe for concurrent use.
type Bidder struct {
	client   *kgo.Client
	requests string
	deadline time.Duration
	waiting  sync.Map // request id → chan Answer
}

// NewBidder connects, and finds the ends of the topic of answers.
func NewBidder(ctx context.Context) (*Bidder, error) {
	answers := variable("ANSWER_TOPIC", "ctr-scores")
	ms, err := strconv.Atoi(variable("DEADLINE_MS", "30"))
	if err != nil {
		return nil, fmt.Errorf("DEADLINE_MS: %w", err)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(variable("KAFKA_BROKERS", "localhost:9092"), ",")...),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // keys by murmur2, as Kafka's own clients
		kgo.ProducerLinger(0), // the default is 10 ms
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.RecordDeliveryTimeout(10*time.Second),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	if err != nil {
		return nil, err
	}
	// Its own positions, no group: each bidder needs the answers to its own requests, so it reads all partitions.
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, answers)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	client.AddConsumePartitions(ends.KOffsets())
	bidder := &Bidder{
		client:   client,
		requests: variable("REQUEST_TOPIC", "bid-requests"),
		deadline: time.Duration(ms) * time.Millisecond,
	}
	go bidder.receive()
	return bidder, nil
}

// Score sends a request and waits for its answer, at most until the deadline and the way back.
func (b *Bidder) Score(ctx context.Context, user string, candidates map[string]any) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, b.deadline+wayBack)
	defer cancel()
	id := rand.Text()
	answered := make(chan Answer, 1)
	b.waiting.Store(id, answered)
	defer b.waiting.Delete(id)
	body, err := json.Marshal(map[string]any{
		"request_id": id,
		"user":       map[string]any{"id": user},
		"context":    map[string]any{"hour": time.Now().UTC().Hour()},
		"candidates": candidates,
	})
	if err != nil {
		return Answer{}, err
	}
	failed := make(chan error, 1)
	b.client.Produce(context.Background(), &kgo.Record{
		Topic: b.requests,
		Key:   []byte(user),
		Value: body,
		Headers: []kgo.RecordHeader{
			{Key: "request_id", Value: []byte(id)},
			{Key: "deadline_ms", Value: []byte(strconv.FormatInt(b.deadline.Milliseconds(), 10))},
			{Key: "content-type", Value: []byte("application/json")},
			// For the ranker: the answer has the request's headers.
			{Key: "sent_at_ms", Value: []byte(strconv.FormatInt(time.Now().UnixMilli(), 10))},
		},
	}, func(record *kgo.Record, err error) {
		if err != nil {
			failed <- err
			return
		}
		printLine(map[string]any{"request_id": id, "user": user, "partition": record.Partition})
	})
	select {
	case answer := <-answered:
		return answer, nil
	case err := <-failed:
		return Answer{}, err
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}

func (b *Bidder) receive() {
	for {
		fetches := b.client.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			return
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			log.Printf("%s/%d: %v", topic, partition, err) // franz-go retries by itself
		})
		fetches.EachRecord(func(record *kgo.Record) {
			var answer Answer
			if err := json.Unmarshal(record.Value, &answer); err != nil {
				log.Printf("offset %d: %v", record.Offset, err)
				return
			}
			// Answers to other bidders, to requests that were given up, and duplicates have no channel.
			if waiting, ok := b.waiting.LoadAndDelete(answer.RequestID); ok {
				waiting.(chan Answer) <- answer
			}
		})
	}
}

// Close sends what is left, and disconnects.
func (b *Bidder) Close(ctx context.Context) error {
	defer b.client.Close()
	return b.client.Flush(ctx)
}

func main() {
	log.SetFlags(0)
	ctx := context.Background()
	if len(os.Args) != 2 {
		log.Fatal("usage: bidder COUNT")
	}
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	bidder, err := NewBidder(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for i := range count {
		started := time.Now()
		ads := map[string]any{"ad_id": []string{"a1", "a2", "a3"}, "bid": []float64{0.4, 1.2, 0.7}}
		answer, err := bidder.Score(ctx, fmt.Sprintf("u%d", i%40), ads)
		if err != nil {
			printLine(map[string]any{"status": "no answer"}) // bid without a score, or not at all
			continue
		}
		ms := time.Since(started).Milliseconds()
		printLine(map[string]any{"request_id": answer.RequestID, "status": answer.Status, "ms": ms})
	}
	if err := bidder.Close(ctx); err != nil {
		log.Fatal(err)
	}
}

var printing sync.Mutex

func printLine(line map[string]any) {
	printing.Lock()
	defer printing.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

func variable(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
