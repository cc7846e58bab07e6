package peer;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.Map;

/** One feature that reads a value: its hash, its ids and its number. */
final class Feature {
  /** The number of its hashes, and of its ids. */
  final int hashes;

  private final String kind;
  private final String[] path;
  private final int hashColumn;
  private final int idColumn;
  private final int offset;
  private final int buckets;
  private final Map<String, Integer> vocabulary = new HashMap<>();
  private final double[] boundaries;
  private final double mean;
  private final double std;
  private final double clip;
  private final boolean log;
  private final String defaultText;
  private final double defaultNumber;

  /** `idColumn`: the column of its first id; negative if it has none. */
  Feature(JsonNode spec, int hashColumn, int idColumn, int offset) {
    kind = spec.get("kind").textValue();
    path = spec.get("path").textValue().split("\\.");
    this.hashColumn = hashColumn;
    this.idColumn = idColumn;
    this.offset = offset;
    buckets = spec.path("buckets").asInt(0);
    for (JsonNode word : spec.path("vocabulary")) {
      vocabulary.put(word.textValue(), vocabulary.size() + 2);
    }
    boundaries = new double[spec.path("boundaries").size()];
    for (int i = 0; i < boundaries.length; i++) {
      boundaries[i] = spec.get("boundaries").get(i).doubleValue();
    }
    mean = spec.path("mean").asDouble(0.0);
    std = spec.path("std").asDouble(1.0);
    clip = spec.path("clip").asDouble(10.0);
    log = spec.path("log").booleanValue();
    defaultText = spec.hasNonNull("default") ? spec.get("default").asText() : null;
    defaultNumber = spec.path("default").asDouble(Double.NaN);
    hashes =
        switch (kind) {
          case "numeric" -> 0;
          case "multi_valued" -> spec.get("max_values").intValue();
          case "categorical", "bucketised" -> 1;
          default -> throw new IllegalArgumentException("a feature of kind " + kind);
        };
  }

  /** The rows of a feature in the fused table. */
  static int rows(JsonNode spec) {
    if (spec.has("vocabulary")) {
      return spec.get("vocabulary").size() + 2;
    }
    return spec.has("boundaries") ? spec.get("boundaries").size() + 2 : spec.get("buckets").intValue();
  }

  /** Writes the value of a document into its columns, or appends its number. */
  void encode(JsonNode document, long[] found, int[] ids, ByteBuffer floats) {
    JsonNode value = document;
    for (String key : path) {
      value = value.path(key);
    }
    switch (kind) {
      case "categorical" -> category(value, found, ids);
      case "multi_valued" -> values(value, found, ids);
      case "bucketised" -> bucket(value, found, ids);
      default -> floats.putFloat(standardised(Hashes.number(value)));
    }
  }

  private void category(JsonNode value, long[] found, int[] ids) {
    String text = Hashes.canonical(value);
    text = text == null ? defaultText : text;
    found[hashColumn] = text == null ? Hashes.MISSING : Hashes.ofText(text);
    if (idColumn < 0) {
      return;
    }
    if (text == null) {
      ids[idColumn] = offset;
    } else if (vocabulary.isEmpty()) {
      ids[idColumn] = Hashes.row(found[hashColumn], offset + 1, buckets - 1);
    } else {
      ids[idColumn] = offset + vocabulary.getOrDefault(text, 1);
    }
  }

  private void values(JsonNode value, long[] found, int[] ids) {
    int n = 0;
    int present = value.isArray() ? value.size() : 1;
    for (int i = 0; i < present && n < hashes; i++) {
      String text = Hashes.canonical(value.isArray() ? value.get(i) : value);
      if (text != null) {
        found[hashColumn + n++] = Hashes.ofText(text);
      }
    }
    if (n == 0 && defaultText != null) {
      found[hashColumn + n++] = Hashes.ofText(defaultText);
    }
    // A free place keeps hash 0 and id 0.
    for (int i = 0; i < n && idColumn >= 0; i++) {
      ids[idColumn + i] = Hashes.row(found[hashColumn + i], offset, buckets);
    }
  }

  private void bucket(JsonNode value, long[] found, int[] ids) {
    double number = Hashes.number(value);
    number = Double.isFinite(number) ? number : defaultNumber;
    int bucket = 0;
    if (!Double.isNaN(number)) {
      bucket = 1;
      while (bucket <= boundaries.length && boundaries[bucket - 1] <= number) {
        bucket++;
      }
    }
    found[hashColumn] = Hashes.mix(bucket + 1L);
    if (idColumn >= 0) {
      ids[idColumn] = offset + bucket;
    }
  }

  private float standardised(double number) {
    double x = Double.isFinite(number) ? number : defaultNumber;
    x = log ? Math.log1p(Math.max(x, 0.0)) : x;
    double scaled = (x - mean) / std;
    return Double.isNaN(scaled) ? 0.0f : (float) Math.max(-clip, Math.min(clip, scaled));
  }
}
