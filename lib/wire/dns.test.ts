// Queries in, answers out, checked by the system resolver library (c-ares, as Node ships it) as the client.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { test } from "node:test";
import { parseIp } from "../net/ip.ts";
import { DnsNameError, readName, writeName } from "./dns-name.ts";
import { encodeFormatError, encodeResponse } from "./dns-response.ts";
import type { DnsAnswer } from "./dns-response.ts";
import { DnsTcpReader, frameTcpMessage } from "./dns-tcp.ts";
import type { DnsQuery } from "./dns.ts";
import {
  answersQuery,
  isTruncated,
  parseQuery,
  RCODE,
  rcodeOf,
  RECORD_TYPE,
  udpLimit,
} from "./dns.ts";

const ECHO = "04 6563686f 07 64656661756c74 00 0001 0001"; // echo.default A IN
const HEADER = "1234 0100 0001 0000 0000 0000";
const OPT = "00 0029 1000 00 00 8000 0000";

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(/\s/g, ""), "hex");
}

function query(message: string): DnsQuery {
  const got = parseQuery(hex(message));
  assert.ok(got.kind === "query");
  return got;
}

const address = (name: string, ip: string, ttlSeconds = 30): DnsAnswer => ({
  kind: "address",
  name,
  ip: parseIp(ip),
  ttlSeconds,
});

test("a query is read with its question as it came", () => {
  const got = query(`1234 0110 0001 0000 0000 0001 ${ECHO.replace("6563", "4563")} ${OPT}`);
  assert.deepEqual(got, {
    kind: "query",
    id: 0x1234,
    recursionDesired: true,
    checkingDisabled: true,
    name: "echo.default",
    type: RECORD_TYPE.A,
    class: 1,
    question: new Uint8Array(hex(ECHO.replace("6563", "4563"))),
    edns: { payloadBytes: 4096, dnssecOk: true },
  });
});

test("the question is a copy", () => {
  const message = hex(`${HEADER} ${ECHO}`);
  const got = parseQuery(message);
  message.fill(0);
  assert.ok(got.kind === "query" && got.question[0] === 4);
});

test("octets that are no host name are escaped", () => {
  assert.equal(
    query(`${HEADER} 03 612e62 04 5c0020ff 00 0001 0001`).name,
    "a\\.b.\\\\\\000\\032\\255",
  );
});

for (const [name, message, rcode] of [
  ["nothing", "", RCODE.FORMERR],
  ["half a header", "1234 0100 0001", RCODE.FORMERR],
  ["a response", `1234 8100 0001 0000 0000 0000 ${ECHO}`, RCODE.FORMERR],
  ["opcode STATUS", `1234 1000 0001 0000 0000 0000 ${ECHO}`, RCODE.NOTIMP],
  ["opcode UPDATE", `1234 2800 0001 0000 0000 0000 ${ECHO}`, RCODE.NOTIMP],
  ["no question", "1234 0100 0000 0000 0000 0000", RCODE.FORMERR],
  ["two questions", `1234 0100 0002 0000 0000 0000 ${ECHO} ${ECHO}`, RCODE.FORMERR],
  ["question without a type", `${HEADER} 01 61 00 00`, RCODE.FORMERR],
  ["name without an end", `${HEADER} 01 61`, RCODE.FORMERR],
  ["label beyond the end", `${HEADER} 3f 61`, RCODE.FORMERR],
  ["label type 0x40", `${HEADER} 41 61 00 0001 0001`, RCODE.FORMERR],
  ["pointer to itself", `${HEADER} c00c 0001 0001`, RCODE.FORMERR],
  ["pointer into the header", `${HEADER} c000 0001 0001`, RCODE.FORMERR],
  ["pointer forward", `${HEADER} c012 0001 0001 00`, RCODE.FORMERR],
  ["pointer cut short", `${HEADER} c0`, RCODE.FORMERR],
  ["label, then a pointer to it", `${HEADER} 01 61 c00c 0001 0001`, RCODE.FORMERR],
  [
    "name of 256 octets",
    `${HEADER} ${`3f ${"61".repeat(63)}`.repeat(3)} 3e ${"61".repeat(62)} 00 0001 0001`,
    RCODE.FORMERR,
  ],
  ["OPT announced but missing", `1234 0100 0001 0000 0000 0001 ${ECHO}`, RCODE.FORMERR],
  ["OPT cut short", `1234 0100 0001 0000 0000 0001 ${ECHO} 00 0029 1000 0000`, RCODE.FORMERR],
  [
    "OPT data beyond the end",
    `1234 0100 0001 0000 0000 0001 ${ECHO} 00 0029 1000 00000000 0001`,
    RCODE.FORMERR,
  ],
  ["two OPT", `1234 0100 0001 0000 0000 0002 ${ECHO} ${OPT} ${OPT}`, RCODE.FORMERR],
  ["OPT among the answers", `1234 0100 0001 0001 0000 0000 ${ECHO} ${OPT}`, RCODE.FORMERR],
  ["OPT of a name", `1234 0100 0001 0000 0000 0001 ${ECHO} c00c ${OPT.slice(3)}`, RCODE.FORMERR],
  [
    "EDNS version 1",
    `1234 0100 0001 0000 0000 0001 ${ECHO} 00 0029 1000 00 01 0000 0000`,
    RCODE.BADVERS,
  ],
] as const)
  test(`refused with ${rcode}: ${name}`, () => {
    const got = parseQuery(hex(message));
    assert.ok(got.kind === "format-error");
    assert.equal(got.rcode, rcode);
    const answer = encodeFormatError(got);
    assert.equal(answer === null, hex(message).length < 12);
    if (answer === null) return;
    assert.equal(answer[0], 0x12);
    assert.equal(rcodeOf(answer), rcode & 15);
    assert.equal(answer[2]! & 0xf8, 0x80 | (hex(message)[2]! & 0x78));
    assert.equal(answer.length, rcode === RCODE.BADVERS ? 23 : 12);
    if (rcode === RCODE.BADVERS) assert.equal(answer[17], 1);
  });

for (const [name, message] of [
  [
    "the longest name",
    `${HEADER} ${`3f ${"61".repeat(63)}`.repeat(3)} 3d ${"61".repeat(61)} 00 0001 0001`,
  ],
  ["the root", `${HEADER} 00 0002 0001`],
  ["octets behind the message", `${HEADER} ${ECHO} ffffff`],
  [
    "another record before OPT",
    `1234 0100 0001 0000 0000 0002 ${ECHO} c00c 00fa 00ff 00000000 0002 abcd ${OPT}`,
  ],
] as const)
  test(`accepted: ${name}`, () => void query(message));

test("an answer repeats id, question and flags, and compresses names", () => {
  const asked = query(`1234 0100 0001 0000 0000 0001 ${ECHO.replace("6563", "4563")} ${OPT}`);
  const reply = encodeResponse(
    asked,
    {
      rcode: RCODE.NOERROR,
      authoritative: true,
      answers: [
        { kind: "cname", name: "echo.default", target: "echo", ttlSeconds: 30 },
        address("echo", "10.96.0.1"),
        address("echo", "fd00::1", 65_537),
      ],
    },
    512,
  );
  assert.equal(
    Buffer.from(reply).toString("hex"),
    hex(
      `1234 8580 0001 0003 0000 0001 ${ECHO.replace("6563", "4563")}
       c00c 0005 0001 0000001e 0006 04 6563686f 00
       c02a 0001 0001 0000001e 0004 0a600001
       c02a 001c 0001 00010001 0010 fd00 0000 0000 0000 0000 0000 0000 0001
       ${OPT}`,
    ).toString("hex"),
  );
});

test("an empty answer and an error are just header, question and OPT", () => {
  const asked = query(`1234 0000 0001 0000 0000 0000 ${ECHO}`);
  const reply = { rcode: RCODE.SERVFAIL, authoritative: false, answers: [] };
  assert.equal(
    Buffer.from(encodeResponse(asked, reply, 512)).toString("hex"),
    hex(`1234 8082 0001 0000 0000 0000 ${ECHO}`).toString("hex"),
  );
});

for (const [edns, limit, records] of [
  ["", 512, 30],
  ["00 0029 0100 00000000 0000", 512, 29],
  ["00 0029 04d0 00000000 0000", 1232, 74],
  ["00 0029 ffff 00000000 0000", 4096, 100],
] as const)
  test(`100 records are cut to ${limit} octets`, () => {
    const asked = query(`1234 0100 0001 0000 0000 000${edns === "" ? 0 : 1} ${ECHO} ${edns}`);
    assert.equal(udpLimit(asked), limit);
    const answers = Array.from({ length: 100 }, (_, i) => address("echo.default", `10.0.0.${i}`));
    const reply = encodeResponse(
      asked,
      { rcode: RCODE.NOERROR, authoritative: true, answers },
      limit,
    );
    assert.ok(reply.length <= limit);
    assert.equal(isTruncated(reply), records < 100);
    assert.equal(reply[7], records);
    assert.equal(reply[11], edns === "" ? 0 : 1);
  });

test("only an answer to this very question is relayed", () => {
  const asked = query(`${HEADER} ${ECHO}`);
  const good = encodeResponse(
    asked,
    { rcode: RCODE.NXDOMAIN, authoritative: false, answers: [] },
    512,
  );
  const changed = (at: number, octet: number): Uint8Array =>
    Uint8Array.from(good).fill(octet, at, at + 1);
  assert.ok(answersQuery(asked, good));
  assert.ok(answersQuery(asked, changed(13, 0x45)), "letter case may change");
  assert.ok(
    answersQuery(asked, hex("1234 8181 0000 0000 0000 0000")),
    "FORMERR without a question",
  );
  for (const [name, bytes] of [
    ["cut short", good.subarray(0, 11)],
    ["without its question", good.subarray(0, 12)],
    ["no error and no question", hex("1234 8180 0000 0000 0000 0000")],
    ["another id", changed(0, 0)],
    ["a query", changed(2, 0x01)],
    ["another name", changed(13, 0x66)],
    ["another type", changed(27, 28)],
    ["another class", changed(29, 3)],
  ] as const)
    assert.ok(!answersQuery(asked, bytes), name);
});

test("a name of ours that has no wire form is a programming error", () => {
  const out = new Uint8Array(600);
  for (const name of [
    "a..b",
    ".",
    "a".repeat(64),
    Array.from({ length: 128 }, () => "aa").join("."),
  ])
    assert.throws(() => writeName(out, 0, name), DnsNameError);
  const end = writeName(out, 12, "xn--bcher-kva.example");
  assert.deepEqual(readName(out, 12, end), { name: "xn--bcher-kva.example", next: end });
});

test("a chain of pointers backwards is followed", () => {
  const bytes = hex("000000000000000000000000 01 61 00 01 62 c00c 01 63 c00f");
  assert.deepEqual(readName(bytes, 19, bytes.length), { name: "c.b.a", next: 23 });
});

test("TCP messages come out whole, however the stream is cut", () => {
  const messages = [hex("01"), hex(""), hex("0203"), Buffer.alloc(65_535, 7)];
  const stream = Buffer.concat(messages.map(frameTcpMessage));
  for (const step of [1, 2, 3, 7, 1000, stream.length]) {
    const reader = new DnsTcpReader();
    const got: Uint8Array[] = [];
    for (let at = 0; at < stream.length; at += step)
      got.push(...reader.push(stream.subarray(at, at + step)));
    assert.deepEqual(
      got.map((m) => Buffer.from(m)),
      messages,
    );
    assert.ok(!reader.isMidMessage);
  }
  const reader = new DnsTcpReader();
  reader.push(hex("00"));
  assert.ok(reader.isMidMessage);
});

test("TCP messages beyond what is asked for wait in the reader, in order", () => {
  const messages = ["01", "02", "03", "04", "05"].map(hex);
  const reader = new DnsTcpReader();
  const got = [...reader.push(Buffer.concat(messages.map(frameTcpMessage)), 2)];
  assert.equal(got.length, 2);
  assert.deepEqual(reader.push(hex(""), 0), []);
  got.push(...reader.push(hex(""), 2), ...reader.push(hex("")));
  assert.deepEqual(
    got.map((m) => Buffer.from(m)),
    messages,
  );
  assert.ok(!reader.isMidMessage);
});

test("a resolver library understands the answers", { timeout: 10_000 }, async () => {
  const server = createSocket("udp4");
  server.on("message", (message, from) => {
    const asked = parseQuery(message);
    assert.ok(asked.kind === "query");
    const stripped = asked.name.replace(/\.default\.svc\.cluster\.local$/, "");
    const answers: DnsAnswer[] =
      stripped === asked.name
        ? []
        : [{ kind: "cname", name: asked.name, target: stripped, ttlSeconds: 30 }];
    if (asked.type === RECORD_TYPE.A)
      answers.push(address(stripped, "10.96.0.1"), address(stripped, "10.96.0.2"));
    if (asked.type === RECORD_TYPE.AAAA) answers.push(address(stripped, "fd00:96::1"));
    const rcode = asked.name === "gone" ? RCODE.NXDOMAIN : RCODE.NOERROR;
    const reply = { rcode, authoritative: true, answers: rcode === RCODE.NOERROR ? answers : [] };
    server.send(encodeResponse(asked, reply, udpLimit(asked)), from.port, from.address);
  });
  server.bind(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const resolver = new Resolver({ timeout: 2000, tries: 1 });
    resolver.setServers([`127.0.0.1:${server.address().port}`]);
    assert.deepEqual(await resolver.resolve4("Echo.example", { ttl: true }), [
      { address: "10.96.0.1", ttl: 30 },
      { address: "10.96.0.2", ttl: 30 },
    ]);
    assert.deepEqual(await resolver.resolve6("www.google.com.default.svc.cluster.local"), [
      "fd00:96::1",
    ]);
    assert.deepEqual(await resolver.resolveCname("a.b.default.svc.cluster.local"), ["a.b"]);
    await assert.rejects(resolver.resolve4("gone"), { code: "ENOTFOUND" });
  } finally {
    server.close();
  }
});
