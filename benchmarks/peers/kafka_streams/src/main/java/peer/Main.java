package peer;

import io.grpc.ManagedChannelBuilder;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.KStream;
import peer.protos.PredictionServiceGrpc;

/**
 * Kafka Streams: one topology, `threads` stream threads, one blocking call for each record.
 *
 * <p>With `ads` it keeps that topic in a GlobalKTable, and requests name ads by id.
 */
public final class Main {
  public static void main(String[] arguments) throws Exception {
    Map<String, String> options = new HashMap<>();
    for (String argument : arguments) {
      String[] parts = argument.substring("--".length()).split("=", 2);
      options.put(parts[0], parts[1]);
    }
    var channel = ManagedChannelBuilder.forTarget(options.get("model-server")).proxyDetector(address -> null);
    var scoring = new Scoring(PredictionServiceGrpc.newBlockingStub(channel.usePlaintext().build()));
    var builder = new StreamsBuilder();
    KStream<byte[], byte[]> requests = builder.stream(options.get("input"));
    if (options.containsKey("ads")) {
      builder.globalTable(options.get("ads"), Ads.table());
      requests.processValues(() -> new Ads(scoring)).to(options.get("output"));
    } else {
      requests.mapValues(value -> scoring.answer(value, null)).to(options.get("output"));
    }

    var settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, options.get("group"));
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.get("bootstrap"));
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, options.get("threads"));
    settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArray().getClass());
    settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArray().getClass());
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), options.get("linger-ms"));
    var streams = new KafkaStreams(builder.build(), settings);
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }
}
