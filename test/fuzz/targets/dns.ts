// DNS messages from pods and from name servers, over UDP and TCP.
import assert from "node:assert/strict";
import { parseIp } from "#lib/net/ip.ts";
import { encodeFormatError, encodeResponse } from "#lib/wire/dns-response.ts";
import { DnsTcpReader, frameTcpMessage } from "#lib/wire/dns-tcp.ts";
import { answersQuery, isTruncated, parseQuery, RCODE, udpLimit } from "#lib/wire/dns.ts";
import type { FuzzTarget } from "../target.ts";
import { hex } from "../target.ts";

const ADDRESSES = Array.from({ length: 40 }, (_, i) =>
  parseIp(i % 2 === 0 ? `10.0.0.${i}` : `fd00::${i}`),
);

export const target: FuzzTarget = {
  name: "dns",
  corpus: hex(
    "1234 0100 0001 0000 0000 0000 04 6563686f 07 64656661756c74 00 0001 0001",
    "1234 0110 0001 0000 0000 0001 04 4563486f 00 001c 0001 00 0029 1000 00 00 8000 0000",
    "1234 0100 0001 0000 0000 0001 00 0002 0001 00 0029 04d0 00 00 0000 000c 000a 0008 0102030405060708",
    "1234 8180 0001 0002 0000 0000 03 777777 00 0001 0001 c00c 0005 0001 0000001e 0002 c00c c00c 0001 0001 0000001e 0004 0a000001",
    "1234 2800 0001 0000 0000 0000 01 61 00 0006 0001",
    "1234 0100 0001 0000 0000 0002 01 61 00 0001 0001 c00c 00fa 00ff 00000000 0002 abcd 00 0029 1000 00 01 0000 0000",
  ),
  refusals: [],
  run(bytes) {
    const reader = new DnsTcpReader();
    const cut = bytes.length >>> 1;
    const messages = [...reader.push(bytes.subarray(0, cut)), ...reader.push(bytes.subarray(cut))];
    assert.deepEqual(messages, new DnsTcpReader().push(bytes));
    const query = parseQuery(bytes);
    if (query.kind === "format-error") {
      const answer = encodeFormatError(query);
      assert.equal(answer === null, bytes.length < 12);
      return query.reason;
    }
    assert.ok(query.question.length <= 255 + 4);
    const limit = udpLimit(query);
    const answer = encodeResponse(
      query,
      {
        rcode: RCODE.NOERROR,
        authoritative: true,
        answers: [
          { kind: "cname", name: query.name, target: "echo.default", ttlSeconds: 30 },
          ...ADDRESSES.map((ip) => ({
            kind: "address" as const,
            name: "echo.default",
            ip,
            ttlSeconds: 30,
          })),
        ],
      },
      limit,
    );
    assert.ok(answer.length <= limit);
    assert.ok(answersQuery(query, answer));
    // The first round trip may have dropped octets behind the message; the second must change nothing.
    const again = parseQuery(
      Buffer.concat([Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), query.question]),
    );
    assert.ok(again.kind === "query");
    assert.deepEqual(
      [again.name, again.type, again.class, again.question],
      [query.name, query.type, query.class, query.question],
    );
    assert.deepEqual(new DnsTcpReader().push(frameTcpMessage(answer)), [answer]);
    return `${query.edns === null ? "plain" : "EDNS"} ${isTruncated(answer) ? "truncated" : "whole"}`;
  },
};
