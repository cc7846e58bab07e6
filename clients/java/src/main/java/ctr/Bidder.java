package ctr;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.MissingNode;
import java.io.IOException;
import java.time.Duration;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Sends requests to the scorer, and waits for their answers: {@code ctr.Bidder COUNT}. Thread-safe.
 *
 * <p>KAFKA_BROKERS, REQUEST_TOPIC, ANSWER_TOPIC and DEADLINE_MS replace the defaults. FORM=protobuf sends the binary form.
 */
public final class Bidder implements AutoCloseable {
  private static final int DEADLINE_MS = Integer.parseInt(variable("DEADLINE_MS", "30"));
  private static final int WAY_BACK_MS = 10; // after the deadline, an answer may still be on its way
  private static final boolean IS_BINARY = variable("FORM", "json").equals("protobuf");
  private static final String REQUESTS = variable("REQUEST_TOPIC", "bid-requests");
  private static final String ANSWERS = variable("ANSWER_TOPIC", "ctr-scores");
  private static final ObjectMapper JSON = new ObjectMapper();

  private final Map<String, CompletableFuture<JsonNode>> waiting = new ConcurrentHashMap<>();
  private final Producer<String, byte[]> producer;
  private final Consumer<byte[], byte[]> consumer;
  private final Thread receiver;

  public Bidder() {
    String brokers = variable("KAFKA_BROKERS", "localhost:9092");
    // Keys are hashed by murmur2 by default.
    Map<String, Object> sending =
        Map.of(
            ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers,
            ProducerConfig.LINGER_MS_CONFIG, 0, // the default is 5 ms
            ProducerConfig.COMPRESSION_TYPE_CONFIG, "lz4",
            ProducerConfig.DELIVERY_TIMEOUT_MS_CONFIG, 10_000,
            ProducerConfig.REQUEST_TIMEOUT_MS_CONFIG, 5_000,
            ProducerConfig.MAX_BLOCK_MS_CONFIG, 10_000);
    Map<String, Object> reading =
        Map.of(
            ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers,
            ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed",
            ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
    producer = new KafkaProducer<>(sending, new StringSerializer(), new ByteArraySerializer());
    consumer = new KafkaConsumer<>(reading, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    // Its own positions, no group: each bidder needs the answers to its own requests, so it reads all partitions.
    List<TopicPartition> partitions =
        consumer.partitionsFor(ANSWERS).stream().map(p -> new TopicPartition(ANSWERS, p.partition())).toList();
    consumer.assign(partitions);
    consumer.seekToEnd(partitions);
    partitions.forEach(consumer::position); // now, before the first request
    receiver = new Thread(this::receive, "answers");
    receiver.start();
  }

  /** Sends a request; the future fails if the brokers do not take it. */
  public CompletableFuture<JsonNode> score(String user, List<Ad> ads) throws Exception {
    String id = UUID.randomUUID().toString();
    CompletableFuture<JsonNode> answer = new CompletableFuture<>();
    waiting.put(id, answer);
    answer.whenComplete((found, error) -> waiting.remove(id));
    int hour = ZonedDateTime.now(ZoneOffset.UTC).getHour();
    Map<String, Object> document = new HashMap<>();
    document.put("request_id", id);
    document.put("user", Map.of("id", user));
    document.put("context", Map.of("hour", hour));
    if (!IS_BINARY) {
      document.put("candidates", Ad.columns(ads));
    }
    byte[] body = JSON.writeValueAsBytes(document);
    if (IS_BINARY) {
      body = Ad.request(body, ads);
    }
    ProducerRecord<String, byte[]> record = new ProducerRecord<>(REQUESTS, user, body);
    record.headers().add("request_id", id.getBytes(UTF_8));
    record.headers().add("deadline_ms", Integer.toString(DEADLINE_MS).getBytes(UTF_8));
    String type = IS_BINARY ? "application/x-protobuf" : "application/json";
    record.headers().add("content-type", type.getBytes(UTF_8));
    // For the ranker: the answer has the request's headers.
    record.headers().add("sent_at_ms", Long.toString(System.currentTimeMillis()).getBytes(UTF_8));
    producer.send(
        record,
        (place, error) -> {
          if (error != null) {
            answer.completeExceptionally(error);
          } else {
            print(Map.of("request_id", id, "user", user, "partition", place.partition()));
          }
        });
    return answer;
  }

  private void receive() {
    try (consumer) {
      while (true) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
          JsonNode answer = answer(record);
          // Answers to other bidders, to requests that were given up, and duplicates have no future.
          CompletableFuture<JsonNode> future = waiting.get(answer.path("request_id").asText());
          if (future != null) {
            future.complete(answer);
          }
        }
      }
    } catch (WakeupException closed) {
      // `close` was called.
    } catch (Exception error) {
      waiting.values().forEach(future -> future.completeExceptionally(error));
    }
  }

  /** The answer in a record; a missing node, logged, for a binary answer and another program's record. */
  static JsonNode answer(ConsumerRecord<byte[], byte[]> record) {
    try {
      JsonNode answer = JSON.readTree(record.value() == null ? new byte[0] : record.value());
      if (answer.has("origin")) {
        return answer;
      }
    } catch (IOException error) {
      // No JSON.
    }
    System.err.println(record.partition() + "/" + record.offset() + ": no answer in JSON");
    return MissingNode.getInstance();
  }

  @Override
  public void close() {
    producer.close();
    consumer.wakeup();
    try {
      receiver.join();
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  public static void main(String[] arguments) throws Exception {
    int count = Integer.parseInt(arguments[0]);
    List<Ad> ads = List.of(new Ad("a1", 0.4), new Ad("a2", 1.2), new Ad("a3", 0.7));
    try (Bidder bidder = new Bidder()) {
      for (int i = 0; i < count; i++) {
        long started = System.nanoTime();
        CompletableFuture<JsonNode> sent = bidder.score("u" + i % 40, ads);
        try {
          JsonNode answer = sent.get(DEADLINE_MS + WAY_BACK_MS, TimeUnit.MILLISECONDS);
          long ms = (System.nanoTime() - started) / 1_000_000;
          print(Map.of("request_id", answer.get("request_id"), "status", answer.get("status"), "ms", ms));
        } catch (TimeoutException | ExecutionException error) {
          sent.cancel(false);
          print(Map.of("status", "no answer")); // bid without a score, or not at all
        }
      }
    }
  }

  private static void print(Map<String, ?> line) {
    System.out.println(JSON.valueToTree(line).toString());
  }

  static String variable(String name, String otherwise) {
    return System.getenv().getOrDefault(name, otherwise);
  }
}
