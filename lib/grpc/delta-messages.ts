// DeltaDiscoveryResponse by hand: resources go out from shared bytes and come in as views, because one
// push may hold 100 000 of them. Field numbers: envoy.service.discovery.v3, contract in lib/xds/README.md.
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";

/** A resource to send. `bytes` is the `Any.value`, encoded once and shared by every stream. */
export interface OutgoingResource {
  readonly name: string;
  readonly version: string;
  readonly bytes: Uint8Array;
  /** Only on-demand answers have them. */
  readonly aliases?: readonly string[];
}

export interface OutgoingResponse {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly systemVersion: string;
  readonly resources: readonly OutgoingResource[];
  readonly removed: readonly string[];
}

/** A resource received. `bytes` is a view into the message: valid for ever, but it keeps the message alive. */
export interface IncomingResource {
  readonly name: string;
  readonly version: string;
  /** `null` when the server sent no payload. */
  readonly bytes: Uint8Array | null;
}

export interface IncomingResponse {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly systemVersion: string;
  readonly resources: readonly IncomingResource[];
  readonly removed: readonly string[];
  /** Size of the whole message. */
  readonly byteLength: number;
}

const TAG = {
  systemVersion: 0x0a,
  resources: 0x12,
  typeUrl: 0x22,
  nonce: 0x2a,
  removed: 0x32,
  resourceVersion: 0x0a,
  resourceAny: 0x12,
  resourceName: 0x1a,
  resourceAlias: 0x22,
  anyTypeUrl: 0x0a,
  anyValue: 0x12,
} as const;

const EMPTY: Uint8Array = new Uint8Array(0);

/**
 * The whole message in one buffer, allocated once: a first pass measures, a second one writes.
 * Hot path: runs per resource of every full push.
 */
export function encodeDeltaResponse(response: OutgoingResponse): Buffer {
  const typeUrl = Buffer.from(response.typeUrl, "utf8");
  const head = new BinaryWriter();
  if (response.systemVersion !== "") head.uint32(TAG.systemVersion).string(response.systemVersion);
  const tail = new BinaryWriter();
  tail.uint32(TAG.typeUrl).bytes(typeUrl).uint32(TAG.nonce).string(response.nonce);
  for (const name of response.removed) tail.uint32(TAG.removed).string(name);
  const headBytes = head.finish();
  const tailBytes = tail.finish();

  const sizes = response.resources.map((resource) => sizeOf(resource, typeUrl.length));
  let total = headBytes.length + tailBytes.length;
  for (const size of sizes) total += 1 + varintSize(size) + size;

  const out = Buffer.allocUnsafe(total);
  out.set(headBytes, 0);
  let at = headBytes.length;
  for (let i = 0; i < sizes.length; i++) {
    const resource = response.resources[i];
    if (resource === undefined) continue;
    out[at++] = TAG.resources;
    at = writeVarint(out, at, sizes[i] ?? 0);
    at = writeResource(out, at, resource, typeUrl);
  }
  out.set(tailBytes, at);
  return out;
}

function sizeOf(resource: OutgoingResource, typeUrlLength: number): number {
  const any = anySize(resource, typeUrlLength);
  let size = 1 + varintSize(any) + any + textFieldSize(resource.name);
  if (resource.version !== "") size += textFieldSize(resource.version);
  for (const alias of resource.aliases ?? []) size += textFieldSize(alias);
  return size;
}

function anySize(resource: OutgoingResource, typeUrlLength: number): number {
  const length = resource.bytes.length;
  return 1 + varintSize(typeUrlLength) + typeUrlLength + 1 + varintSize(length) + length;
}

function writeResource(out: Buffer, start: number, r: OutgoingResource, typeUrl: Buffer): number {
  let at = start;
  if (r.version !== "") at = writeText(out, at, TAG.resourceVersion, r.version);
  out[at++] = TAG.resourceAny;
  at = writeVarint(out, at, anySize(r, typeUrl.length));
  out[at++] = TAG.anyTypeUrl;
  at = writeVarint(out, at, typeUrl.length);
  out.set(typeUrl, at);
  at += typeUrl.length;
  out[at++] = TAG.anyValue;
  at = writeVarint(out, at, r.bytes.length);
  out.set(r.bytes, at);
  at += r.bytes.length;
  at = writeText(out, at, TAG.resourceName, r.name);
  for (const alias of r.aliases ?? []) at = writeText(out, at, TAG.resourceAlias, alias);
  return at;
}

function textFieldSize(text: string): number {
  const length = Buffer.byteLength(text, "utf8");
  return 1 + varintSize(length) + length;
}

function writeText(out: Buffer, start: number, tag: number, text: string): number {
  out[start] = tag;
  const at = writeVarint(out, start + 1, Buffer.byteLength(text, "utf8"));
  return at + out.write(text, at, "utf8");
}

function varintSize(value: number): number {
  return value < 0x80
    ? 1
    : value < 0x4000
      ? 2
      : value < 0x20_0000
        ? 3
        : value < 0x1000_0000
          ? 4
          : 5;
}

function writeVarint(out: Buffer, start: number, value: number): number {
  let at = start;
  let rest = value;
  while (rest >= 0x80) {
    out[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  out[at++] = rest;
  return at;
}

/** @throws {Error} for truncated or malformed protobuf; unknown fields are skipped */
export function decodeDeltaResponse(bytes: Buffer): IncomingResponse {
  const reader = new BinaryReader(bytes);
  const resources: IncomingResource[] = [];
  const removed: string[] = [];
  let [typeUrl, nonce, systemVersion] = ["", "", ""];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === TAG.resources) {
      const length = reader.uint32();
      const end = reader.pos + length;
      if (end > reader.len) throw new RangeError("Resource extends past the end of the message");
      resources.push(readResource(reader, bytes, end));
    } else if (tag === TAG.removed) removed.push(readText(reader, bytes));
    else if (tag === TAG.typeUrl) typeUrl = readText(reader, bytes);
    else if (tag === TAG.nonce) nonce = readText(reader, bytes);
    else if (tag === TAG.systemVersion) systemVersion = readText(reader, bytes);
    else reader.skip(tag & 7);
  }
  return { typeUrl, nonce, systemVersion, resources, removed, byteLength: bytes.length };
}

/** Hot path: runs per resource of every received push. */
function readResource(reader: BinaryReader, bytes: Buffer, end: number): IncomingResource {
  let [name, version] = ["", ""];
  let payload: Uint8Array | null = null;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === TAG.resourceVersion) version = readText(reader, bytes);
    else if (tag === TAG.resourceAny) {
      const length = reader.uint32();
      payload = readAnyValue(reader, reader.pos + length, end);
    } else if (tag === TAG.resourceName) name = readText(reader, bytes);
    else reader.skip(tag & 7);
  }
  if (reader.pos !== end) throw new RangeError("Field extends past the end of its resource");
  return { name, version, bytes: payload };
}

/** The payload of an `Any`; its type is not checked, the response's decides. Empty when absent (proto3). */
function readAnyValue(reader: BinaryReader, end: number, limit: number): Uint8Array {
  if (end > limit) throw new RangeError("Payload extends past the end of its resource");
  let value = EMPTY;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === TAG.anyValue) value = reader.bytes();
    else reader.skip(tag & 7);
  }
  if (reader.pos !== end) throw new RangeError("Field extends past the end of its payload");
  return value;
}

function readText(reader: BinaryReader, bytes: Buffer): string {
  const length = reader.uint32();
  const start = reader.pos;
  const end = start + length;
  if (end > bytes.length) throw new RangeError("String extends past the end of the message");
  reader.pos = end;
  return bytes.toString("utf8", start, end);
}
