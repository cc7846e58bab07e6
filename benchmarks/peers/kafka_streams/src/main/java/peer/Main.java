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
import peer.protos.PredictionServiceGrpc;

/** Kafka Streams: one topology without state, `threads` stream threads, one blocking call for each record. */
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
    builder.<byte[], byte[]>stream(options.get("input")).mapValues(scoring::answer).to(options.get("output"));

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
