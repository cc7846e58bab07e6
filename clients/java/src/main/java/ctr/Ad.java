package ctr;

import com.google.protobuf.ByteString;
import ctr.v1.BidRequest;
import ctr.v1.Candidate;
import java.util.List;
import java.util.Map;

/** A candidate. In Protobuf its bytes are made once, and kept until the ad changes: the scorer knows the ad by them. */
public record Ad(String id, double bid, ByteString bytes) {
  public Ad(String id, double bid) {
    this(id, bid, Candidate.newBuilder().addTexts(id).addNumbers(bid).build().toByteString());
  }

  /** The candidates of a request in JSON. */
  static Map<String, List<?>> columns(List<Ad> ads) {
    return Map.of("ad_id", ads.stream().map(Ad::id).toList(), "bid", ads.stream().map(Ad::bid).toList());
  }

  /** A request in Protobuf; the document is its JSON without candidates. */
  static byte[] request(byte[] document, List<Ad> ads) {
    return BidRequest.newBuilder()
        .setDocument(ByteString.copyFrom(document))
        .addTextPaths("ad_id")
        .addNumberPaths("bid")
        .addAllCandidates(ads.stream().map(Ad::bytes).toList())
        .build()
        .toByteArray();
  }
}
