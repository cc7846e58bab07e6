package peer;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Encodes requests as `streamer.features.Encoder` does: the same ids and floats.
 *
 * <p>It takes the kinds categorical, multi_valued, numeric, bucketised, and crosses of features with one value.
 */
final class Encoder {
  private final Side request = new Side();
  private final Side candidate = new Side();
  private final List<Pair> pairs = new ArrayList<>();

  /** The matrices of one request: one row of the request, `candidates` rows of the others. */
  record Encoded(
      int candidates,
      ByteBuffer requestIds,
      ByteBuffer requestFloats,
      ByteBuffer candidateIds,
      ByteBuffer candidateFloats,
      ByteBuffer pairIds) {}

  /** A cross of one side: the columns of its parents' hashes. */
  private record Cross(int[] parents, int offset, int buckets, int column) {}

  /** A cross of both sides. */
  private record Pair(int[] request, int[] candidate, int offset, int buckets) {}

  /** The features of the request, or those of a candidate. */
  private static final class Side {
    final List<Feature> features = new ArrayList<>();
    final List<Cross> crosses = new ArrayList<>();
    int hashes;
    int ids;
    int floats;

    long[] encode(JsonNode document, ByteBuffer ids, ByteBuffer floats) {
      long[] found = new long[hashes];
      int[] row = new int[this.ids];
      for (Feature feature : features) {
        feature.encode(document, found, row, floats);
      }
      for (Cross cross : crosses) {
        row[cross.column] = Hashes.row(fold(found, cross.parents), cross.offset, cross.buckets);
      }
      ids.asIntBuffer().put(row);
      ids.position(ids.position() + 4 * row.length);
      return found;
    }
  }

  Encoder(JsonNode spec) {
    Map<String, Integer> offsets = offsets(spec.get("features"));
    Map<String, JsonNode> byName = new HashMap<>();
    Map<String, Integer> columns = new HashMap<>();
    for (JsonNode feature : spec.get("features")) {
      String name = feature.get("name").textValue();
      byName.put(name, feature);
      if (feature.get("kind").textValue().equals("cross")) {
        addCross(feature, offsets.get(name), byName, columns);
        continue;
      }
      Side side = feature.get("side").textValue().equals("candidate") ? candidate : request;
      boolean used = isUsed(feature);
      boolean numeric = feature.get("kind").textValue().equals("numeric");
      int id = used && !numeric ? side.ids : -1;
      var planned = new Feature(feature, side.hashes, id, offsets.getOrDefault(name, 0));
      columns.put(name, side.hashes);
      side.features.add(planned);
      side.hashes += planned.hashes;
      side.ids += id < 0 ? 0 : planned.hashes;
      side.floats += numeric ? 1 : 0;
    }
  }

  Encoded encode(JsonNode document) {
    JsonNode candidates = document.get("candidates");
    int n = candidates.size();
    var encoded =
        new Encoded(
            n, rows(1, request.ids), rows(1, request.floats), rows(n, candidate.ids), rows(n, candidate.floats),
            rows(n, pairs.size()));
    long[] shared = request.encode(document, encoded.requestIds, encoded.requestFloats);
    long[] prepared = new long[pairs.size()];
    for (int i = 0; i < prepared.length; i++) {
      prepared[i] = Hashes.prepare(fold(shared, pairs.get(i).request));
    }
    for (JsonNode one : candidates) {
      long[] own = candidate.encode(one, encoded.candidateIds, encoded.candidateFloats);
      for (int i = 0; i < prepared.length; i++) {
        Pair pair = pairs.get(i);
        long joined = Hashes.join(prepared[i], fold(own, pair.candidate));
        encoded.pairIds.putInt(Hashes.row(joined, pair.offset, pair.buckets));
      }
    }
    return encoded;
  }

  private void addCross(
      JsonNode cross, int offset, Map<String, JsonNode> byName, Map<String, Integer> columns) {
    List<Integer> ofRequest = new ArrayList<>();
    List<Integer> ofCandidate = new ArrayList<>();
    // The user's features come first, then those of the context.
    for (String side : new String[] {"user", "context", "candidate"}) {
      for (JsonNode parent : cross.get("of")) {
        JsonNode feature = byName.get(parent.textValue());
        if (feature.get("kind").textValue().equals("multi_valued")) {
          throw new IllegalArgumentException(cross.get("name") + ": a cross of a multi-valued feature");
        }
        if (feature.get("side").textValue().equals(side)) {
          (side.equals("candidate") ? ofCandidate : ofRequest).add(columns.get(parent.textValue()));
        }
      }
    }
    int buckets = cross.get("buckets").intValue();
    if (!ofRequest.isEmpty() && !ofCandidate.isEmpty()) {
      pairs.add(new Pair(ints(ofRequest), ints(ofCandidate), offset, buckets));
      return;
    }
    Side side = ofRequest.isEmpty() ? candidate : request;
    side.crosses.add(new Cross(ints(ofRequest.isEmpty() ? ofCandidate : ofRequest), offset, buckets, side.ids++));
  }

  /** The first row of each feature in the fused table, in which deep features come first. */
  private static Map<String, Integer> offsets(JsonNode features) {
    List<JsonNode> inTable = new ArrayList<>();
    for (JsonNode feature : features) {
      if (isUsed(feature) && !feature.get("kind").textValue().equals("numeric")) {
        inTable.add(feature);
      }
    }
    inTable.sort(Comparator.comparing(feature -> !feature.path("deep").booleanValue()));
    Map<String, Integer> found = new HashMap<>();
    int next = 1;
    for (JsonNode feature : inTable) {
      found.put(feature.get("name").textValue(), next);
      next += Feature.rows(feature);
    }
    return found;
  }

  private static boolean isUsed(JsonNode feature) {
    return feature.path("wide").booleanValue() || feature.path("deep").booleanValue();
  }

  private static long fold(long[] hashes, int[] parents) {
    long folded = hashes[parents[0]];
    for (int i = 1; i < parents.length; i++) {
      folded = Hashes.join(Hashes.prepare(folded), hashes[parents[i]]);
    }
    return folded;
  }

  private static ByteBuffer rows(int rows, int width) {
    return ByteBuffer.allocate(4 * rows * width).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static int[] ints(List<Integer> values) {
    return values.stream().mapToInt(Integer::intValue).toArray();
  }
}
