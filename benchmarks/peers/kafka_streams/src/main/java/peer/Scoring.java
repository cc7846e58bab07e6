package peer;

import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Iterator;
import java.util.function.Function;
import peer.protos.DataType;
import peer.protos.ModelSpec;
import peer.protos.PredictRequest;
import peer.protos.PredictionServiceGrpc.PredictionServiceBlockingStub;
import peer.protos.TensorProto;
import peer.protos.TensorShapeProto;

/** Scores requests: JSON in, one Predict call, JSON out. Threads may share it. */
final class Scoring {
  static final ObjectMapper JSON = new ObjectMapper();

  private final PredictionServiceBlockingStub stub;
  private final Encoder encoder;

  /** Takes the feature spec from the model. */
  Scoring(PredictionServiceBlockingStub stub) throws IOException {
    this.stub = stub;
    var reply = stub.predict(PredictRequest.newBuilder().setModelSpec(signature("feature_spec")).build());
    encoder = new Encoder(JSON.readTree(reply.getOutputsOrThrow("spec").getStringVal(0).toByteArray()));
  }

  /** The answer to a request; with `ads` it names ads by id, and this function has their features. */
  byte[] answer(byte[] value, Function<String, JsonNode> ads) {
    try {
      JsonNode document = JSON.readTree(value);
      if (ads != null) {
        ArrayNode candidates = JSON.createArrayNode();
        document.get("candidates").get("ad_id").forEach(id -> candidates.add(ads.apply(id.textValue())));
        ((ObjectNode) document).set("candidates", candidates);
      }
      return answer(document, scores(encoder.encode(document)));
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private Iterator<Float> scores(Encoder.Encoded encoded) {
    var request = PredictRequest.newBuilder().setModelSpec(signature("score"));
    int n = encoded.candidates();
    request.putInputs("request_ids", tensor(DataType.DT_INT32, encoded.requestIds(), 1));
    request.putInputs("request_floats", tensor(DataType.DT_FLOAT, encoded.requestFloats(), 1));
    request.putInputs("candidate_ids", tensor(DataType.DT_INT32, encoded.candidateIds(), n));
    request.putInputs("candidate_floats", tensor(DataType.DT_FLOAT, encoded.candidateFloats(), n));
    request.putInputs("pair_ids", tensor(DataType.DT_INT32, encoded.pairIds(), n));
    var shape = TensorShapeProto.newBuilder().addDim(TensorShapeProto.Dim.newBuilder().setSize(n));
    var zeros = TensorProto.newBuilder().setDtype(DataType.DT_INT32).setTensorShape(shape);
    request.putInputs("row_to_request", zeros.setTensorContent(ByteString.copyFrom(new byte[4 * n])).build());
    var ctr = stub.predict(request.build()).getOutputsOrThrow("ctr");
    if (ctr.getTensorContent().isEmpty()) {
      return ctr.getFloatValList().iterator();
    }
    var floats = ctr.getTensorContent().asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
    return new Iterator<>() {
      @Override
      public boolean hasNext() {
        return floats.hasRemaining();
      }

      @Override
      public Float next() {
        return floats.get();
      }
    };
  }

  private static byte[] answer(JsonNode document, Iterator<Float> ctr) throws IOException {
    var out = new ByteArrayOutputStream(16_384);
    try (JsonGenerator json = JSON.createGenerator(out)) {
      json.writeStartObject();
      json.writeStringField("request_id", document.get("request_id").textValue());
      json.writeStringField("status", "ok");
      json.writeArrayFieldStart("ad_id");
      for (JsonNode candidate : document.get("candidates")) {
        json.writeString(candidate.get("ad_id").textValue());
      }
      json.writeEndArray();
      json.writeArrayFieldStart("ctr");
      while (ctr.hasNext()) {
        json.writeNumber(ctr.next());
      }
      json.writeEndArray();
      json.writeEndObject();
    }
    return out.toByteArray();
  }

  /** A matrix of 4-byte values with this number of rows. */
  private static TensorProto tensor(DataType type, ByteBuffer values, int rows) {
    var shape = TensorShapeProto.newBuilder();
    for (int size : new int[] {rows, values.capacity() / 4 / rows}) {
      shape.addDim(TensorShapeProto.Dim.newBuilder().setSize(size));
    }
    var content = UnsafeByteOperations.unsafeWrap(values.rewind());
    return TensorProto.newBuilder().setDtype(type).setTensorShape(shape).setTensorContent(content).build();
  }

  private static ModelSpec signature(String name) {
    return ModelSpec.newBuilder().setName("ctr").setSignatureName(name).build();
  }
}
