package peer;

import com.dynatrace.hash4j.hashing.Hashing;
import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;

/** The hash contract of `streamer.features.hashing` (docs/adr/0004-numpy-hash-contract.md). */
final class Hashes {
  static final long MISSING =
      Hashing.xxh3_64().hashBytesToLong("\u00ff missing".getBytes(StandardCharsets.ISO_8859_1));

  private static final long GOLDEN = 0x9E3779B97F4A7C15L;

  private Hashes() {}

  static long ofText(String text) {
    return Hashing.xxh3_64().hashBytesToLong(text.getBytes(StandardCharsets.UTF_8));
  }

  static long mix(long x) {
    x = (x ^ (x >>> 30)) * 0xBF58476D1CE4E5B9L;
    x = (x ^ (x >>> 27)) * 0x94D049BB133111EBL;
    return x ^ (x >>> 31);
  }

  static long prepare(long left) {
    return mix(left + GOLDEN) + GOLDEN;
  }

  static long join(long prepared, long right) {
    return mix(prepared ^ right);
  }

  /** A row of the fused table for a hash. */
  static int row(long hash, int offset, int buckets) {
    return offset + (int) Long.remainderUnsigned(hash, buckets);
  }

  /** The text of a scalar; null if it counts as missing. Fractions are as Java writes them. */
  static String canonical(JsonNode value) {
    if (value.isTextual()) {
      return value.textValue().isEmpty() ? null : value.textValue();
    }
    if (value.isFloatingPointNumber() && value.doubleValue() == Math.rint(value.doubleValue())) {
      return Long.toString(value.longValue());
    }
    if (value.isArray() && value.size() == 1) {
      return canonical(value.get(0));
    }
    return value.isNumber() || value.isBoolean() ? value.asText() : null;
  }

  /** A number or the text of one; NaN otherwise. */
  static double number(JsonNode value) {
    if (value.isNumber()) {
      return value.doubleValue();
    }
    try {
      return value.isTextual() ? Double.parseDouble(value.textValue()) : Double.NaN;
    } catch (NumberFormatException error) {
      return Double.NaN;
    }
  }
}
