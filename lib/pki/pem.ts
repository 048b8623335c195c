// PEM text ⇄ DER bytes, strict about what is inside a block and lenient about what stands between blocks.
import { PkiError } from "./errors.ts";

const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----([^-]*)-----END ([A-Z0-9 ]+)-----/g;

export interface PemBlock {
  readonly label: string;
  readonly der: Buffer;
}

/**
 * Every block of `text`, in order. Text outside blocks is ignored (RFC 7468 §2).
 * @throws {PkiError} `PEM_INVALID` for a block whose body is not base64 or whose end names another label
 */
export function parsePem(text: string): PemBlock[] {
  const blocks: PemBlock[] = [];
  for (const [, label = "", body = "", end] of text.matchAll(BLOCK)) {
    const base64 = body.replace(/\s+/g, "");
    if (label !== end || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64))
      throw new PkiError("PEM_INVALID", `Malformed PEM block ${JSON.stringify(label)}`);
    blocks.push({ label, der: Buffer.from(base64, "base64") });
  }
  return blocks;
}

/** 64-column base64 between BEGIN and END, with a final newline. */
export function formatPem(label: string, der: Uint8Array): string {
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString("base64");
  return `-----BEGIN ${label}-----\n${base64.replace(/.{1,64}/g, "$&\n")}-----END ${label}-----\n`;
}
