// Which header lists are a CONNECT, a wrong method, or malformed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectRequestFields, ConnectResponseFields } from "./connect-message.ts";

type Fields = readonly (readonly [name: string, value: string])[];
const METHOD = [":method", "CONNECT"] as const;
const AUTHORITY = [":authority", "10.0.3.7:80"] as const;
const CONNECT = [METHOD, AUTHORITY] as const;

const reused = new ConnectRequestFields();
function request(fields: Fields): ConnectRequestFields {
  reused.reset();
  for (const [name, value] of fields) reused.onHeader(name, value, false);
  return reused;
}

for (const [name, fields, want] of [
  ["plain CONNECT", CONNECT, "connect"],
  ["unknown fields", [...CONNECT, ["x-b3", "1"], ["te", "trailers"]], "connect"],
  ["symbols in a name", [...CONNECT, ["!#$%&'*+-.^_`|~09az", "x"]], "connect"],
  ["empty value", [...CONNECT, ["x-forwarded-network", ""]], "connect"],
  ["GET", [[":method", "GET"], [":scheme", "http"], [":path", "/"], AUTHORITY], "other-method"],
  ["nothing", [], "malformed"],
  ["no method", [AUTHORITY], "malformed"],
  ["no authority", [METHOD], "malformed"],
  ["scheme", [...CONNECT, [":scheme", "https"]], "malformed"],
  ["path", [...CONNECT, [":path", "/"]], "malformed"],
  ["extended CONNECT", [...CONNECT, [":protocol", "websocket"]], "malformed"],
  ["status in a request", [...CONNECT, [":status", "200"]], "malformed"],
  ["two methods", [METHOD, ...CONNECT], "malformed"],
  ["two authorities", [...CONNECT, AUTHORITY], "malformed"],
  ["pseudo field after a field", [METHOD, ["baggage", "a=b"], AUTHORITY], "malformed"],
  ["upper-case name", [...CONNECT, ["Baggage", "a=b"]], "malformed"],
  ["empty name", [...CONNECT, ["", "x"]], "malformed"],
  ["blank in a name", [...CONNECT, ["a b", "x"]], "malformed"],
  ["colon in a name", [...CONNECT, ["a:b", "x"]], "malformed"],
  ["latin1 in a name", [...CONNECT, ["\u00e9", "x"]], "malformed"],
  ["NUL in a value", [...CONNECT, ["x", "a\0b"]], "malformed"],
  ["CR in a value", [...CONNECT, ["forwarded", "a\rb"]], "malformed"],
  ["LF in the authority", [METHOD, [":authority", "a:80\n"]], "malformed"],
  ["blank before a value", [...CONNECT, ["x", " a"]], "malformed"],
  ["tab after a value", [...CONNECT, ["x", "a\t"]], "malformed"],
  ["connection", [...CONNECT, ["connection", "close"]], "malformed"],
  ["transfer-encoding", [...CONNECT, ["transfer-encoding", "chunked"]], "malformed"],
  ["te other than trailers", [...CONNECT, ["te", "gzip"]], "malformed"],
] as const satisfies readonly (readonly [string, Fields, string])[])
  test(`request with ${name} is ${want}`, () => assert.equal(request(fields).kind, want));

test("metadata: baggage lines are joined, of the others the first counts", () => {
  const got = request([
    ...CONNECT,
    ["baggage", "a=1"],
    ["forwarded", "host=a"],
    ["baggage", "b=2"],
    ["forwarded", "host=b"],
    ["traceparent", "t1"],
    ["traceparent", "t2"],
    ["x-forwarded-network", ""],
  ]);
  assert.deepEqual(
    [got.authority, got.baggage, got.forwarded, got.traceparent, got.forwardedNetwork],
    ["10.0.3.7:80", "a=1,b=2", "host=a", "t1", ""],
  );
});

test("a used instance forgets everything", () => {
  request([[":method", "GET"], AUTHORITY, ["baggage", "a=1"], ["forwarded", "f"], [":bad", ""]]);
  const got = request([METHOD]);
  assert.deepEqual(
    [got.kind, got.baggage, got.forwarded, got.authority],
    ["malformed", null, null, null],
  );
  assert.equal(request(CONNECT).kind, "connect");
});

for (const [fields, want] of [
  [[[":status", "200"]], 200],
  [
    [
      [":status", "503"],
      ["date", "now"],
    ],
    503,
  ],
  [[], null],
  [[[":status", "20"]], null],
  [[[":status", "0200"]], null],
  [
    [
      [":status", "200"],
      [":status", "200"],
    ],
    null,
  ],
  [
    [
      ["date", "now"],
      [":status", "200"],
    ],
    null,
  ],
  [
    [
      [":status", "200"],
      [":path", "/"],
    ],
    null,
  ],
  [
    [
      [":status", "200"],
      ["Date", "now"],
    ],
    null,
  ],
  [
    [
      [":status", "200"],
      ["connection", "close"],
    ],
    null,
  ],
] as const satisfies readonly (readonly [Fields, number | null])[])
  test(`response ${JSON.stringify(fields)} has status ${want}`, () => {
    const response = new ConnectResponseFields();
    for (const [name, value] of fields) response.onHeader(name, value, false);
    assert.equal(response.status, want);
    response.reset();
    assert.equal(response.status, null);
  });
