package ctr;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads answers, and chooses the ad with the highest click probability: {@code ctr.Ranker [IDLE_S]}.
 *
 * <p>It ends when no answer came for IDLE_S seconds; without it, at SIGTERM. KAFKA_BROKERS, ANSWER_TOPIC, GROUP and
 * START_AT (latest or earliest) replace the defaults.
 */
public final class Ranker {
  private static final int KEPT_ORIGINS = 100_000; // more than a crash of the scorer can repeat
  private static final ObjectMapper JSON = new ObjectMapper();

  private record Origin(String topic, int partition, long offset) {}

  /** The origins of the latest answers: an answer with a known one is a duplicate. */
  private static final class Origins extends LinkedHashMap<Origin, Boolean> {
    private static final long serialVersionUID = 1;

    boolean isNew(JsonNode answer) {
      JsonNode at = answer.get("origin");
      Origin origin = new Origin(at.get("topic").asText(), at.get("partition").asInt(), at.get("offset").asLong());
      return putIfAbsent(origin, true) == null;
    }

    @Override
    protected boolean removeEldestEntry(Map.Entry<Origin, Boolean> eldest) {
      return size() > KEPT_ORIGINS;
    }
  }

  /** Milliseconds after the deadline; below 0: in time. Bidder and ranker need synchronous clocks. */
  private static long lateMs(ConsumerRecord<?, ?> record) {
    Header sentAt = record.headers().lastHeader("sent_at_ms");
    Header deadline = record.headers().lastHeader("deadline_ms");
    if (sentAt == null || deadline == null) {
      return 0;
    }
    try {
      return System.currentTimeMillis()
          - Long.parseLong(new String(sentAt.value(), UTF_8))
          - Math.round(Double.parseDouble(new String(deadline.value(), UTF_8)));
    } catch (NumberFormatException error) {
      return 0; // a bidder can send any text
    }
  }

  /** The ad with the highest score; null without scores. */
  private static String best(JsonNode answer) {
    String id = answer.get("request_id").asText();
    switch (answer.get("status").asText()) {
      case "ok", "partial", "fallback" -> {
        // `source` says which scores are priors: all of a fallback's, some of a partial answer's.
        JsonNode scores = answer.get("ctr");
        int best = 0;
        for (int i = 1; i < scores.size(); i++) {
          best = scores.get(i).asDouble() > scores.get(best).asDouble() ? i : best;
        }
        return answer.get("ad_id").get(best).asText();
      }
      case "expired" -> {} // too late to score
      case "invalid" -> System.err.println(id + ": " + answer.get("reason").asText()); // a fault of the bidder
      default -> System.err.println(id + ": unknown status " + answer.get("status").asText()); // a newer scorer
    }
    return null;
  }

  public static void main(String[] arguments) throws Exception {
    double idleS = arguments.length > 0 ? Double.parseDouble(arguments[0]) : Double.POSITIVE_INFINITY;
    Map<String, Object> settings =
        Map.of(
            ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, Bidder.variable("KAFKA_BROKERS", "localhost:9092"),
            ConsumerConfig.GROUP_ID_CONFIG, Bidder.variable("GROUP", "rankers"),
            ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed",
            ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, Bidder.variable("START_AT", "latest")); // of a new group
    Map<String, Integer> statuses = new TreeMap<>();
    Origins origins = new Origins();
    int duplicates = 0;
    int late = 0;
    Consumer<byte[], byte[]> consumer =
        new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    Thread main = Thread.currentThread();
    Thread stop =
        new Thread(
            () -> {
              consumer.wakeup();
              try {
                main.join();
              } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
              }
            });
    Runtime.getRuntime().addShutdownHook(stop);
    try (consumer) {
      consumer.subscribe(List.of(Bidder.variable("ANSWER_TOPIC", "ctr-scores")));
      long last = 0;
      while (last == 0 || System.nanoTime() - last < idleS * 1e9) {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
        last = records.isEmpty() ? last : System.nanoTime();
        for (ConsumerRecord<byte[], byte[]> record : records) {
          JsonNode answer = Bidder.answer(record);
          if (answer.isMissingNode()) {
            continue;
          }
          if (!origins.isNew(answer)) {
            duplicates++;
            continue;
          }
          long after = lateMs(record);
          late += after > 0 ? 1 : 0;
          statuses.merge(answer.get("status").asText(), 1, Integer::sum);
          ObjectNode line = JSON.createObjectNode();
          line.set("request_id", answer.get("request_id"));
          System.out.println(line.put("late_ms", after).put("best", best(answer)));
        }
      }
    } catch (WakeupException stopped) {
      // SIGTERM
    }
    System.out.println(
        JSON.valueToTree(Map.of("answers", statuses, "duplicates", duplicates, "late", late)).toString());
  }
}
