package peer;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.TimestampedKeyValueStore;
import org.apache.kafka.streams.state.ValueAndTimestamp;

/** Scores requests by id with the ads in a global store in memory. */
final class Ads implements FixedKeyProcessor<byte[], byte[], byte[]> {
  private static final String STORE = "ads";

  private final Scoring scoring;
  private FixedKeyProcessorContext<byte[], byte[]> context;
  private TimestampedKeyValueStore<String, JsonNode> ads;

  Ads(Scoring scoring) {
    this.scoring = scoring;
  }

  /** The store of the GlobalKTable: JSON by ad id. */
  static Materialized<String, JsonNode, KeyValueStore<Bytes, byte[]>> table() {
    return Materialized.<String, JsonNode>as(Stores.inMemoryKeyValueStore(STORE))
        .withKeySerde(Serdes.String())
        .withValueSerde(json());
  }

  @Override
  public void init(FixedKeyProcessorContext<byte[], byte[]> context) {
    this.context = context;
    ads = context.getStateStore(STORE);
  }

  @Override
  public void process(FixedKeyRecord<byte[], byte[]> record) {
    byte[] answer = scoring.answer(record.value(), id -> ValueAndTimestamp.getValueOrNull(ads.get(id)));
    context.forward(record.withValue(answer));
  }

  private static Serde<JsonNode> json() {
    return Serdes.serdeFrom((topic, value) -> write(value), (topic, bytes) -> read(bytes));
  }

  private static byte[] write(JsonNode value) {
    try {
      return value == null ? null : Scoring.JSON.writeValueAsBytes(value);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static JsonNode read(byte[] bytes) {
    try {
      return bytes == null ? null : Scoring.JSON.readTree(bytes);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
