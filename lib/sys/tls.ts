// TLS 1.3 on a non-blocking socket, with mutual SPIFFE authentication decided inside the handshake.
// One TlsContext per identity and role; a TlsSession per connection. Numbers on the hot path:
// `read` and `write` return bytes moved, WOULD_BLOCK, or CLOSED with the reason kept.
import { cString, nativeBuffer } from "./memory.ts";
import { registerCallback, viewOf } from "./raw.ts";
import * as ssl from "./tls-raw.ts";

export const WOULD_BLOCK = -1;
export const CLOSED = -2;

/** What a context is made of; DER throughout. */
export interface TlsMaterial {
  readonly leaf: Uint8Array;
  readonly chain: readonly Uint8Array[];
  /** PKCS#8. */
  readonly privateKey: Uint8Array;
  readonly roots: readonly Uint8Array[];
}

/** Asked during the handshake, after the chain was verified: `null` accepts, a text refuses and says why. */
export type PeerCheck = (uriSans: readonly string[]) => string | null;

export class TlsError extends Error {
  override readonly name = "TlsError";
}

const SSL_CTRL_SET_READ_AHEAD = 41;
const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
const SSL_CTRL_MODE = 33;
const SSL_CTRL_CHAIN_CERT = 89;
const SSL_CTRL_SET_GROUPS_LIST = 92;
const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
const TLS1_3_VERSION = 0x0304;
/** Partial writes; the buffer may move between attempts; idle connections give their buffers back. */
const MODES = 0x1 | 0x2 | 0x10;
const SSL_VERIFY_PEER_OR_FAIL = 0x1 | 0x2;
const SSL_ERROR_SSL = 1;
const SSL_ERROR_WANT_READ = 2;
const SSL_ERROR_WANT_WRITE = 3;
const SSL_ERROR_SYSCALL = 5;
const SSL_ERROR_ZERO_RETURN = 6;
const NID_SUBJECT_ALT_NAME = 85;
const GEN_URI = 6;
const EXFLAG_CA = 0x10;
const X509_V_ERR_CERT_NOT_YET_VALID = 9;
const X509_V_ERR_CERT_HAS_EXPIRED = 10;
/** Not in OpenSSL's alert table, so the peer is told certificate_unknown. */
const X509_V_ERR_NO_TRUST_DOMAIN_MATCH = 95;
const MAX_SANS = 64;

/**
 * SSL_OP_NO_TX_ and NO_RX_CERTIFICATE_COMPRESSION (RFC 8879): compressing at best quality cost more than
 * the rest of the handshake, for a kilobyte.
 */
const NO_CERTIFICATE_COMPRESSION = 2 ** 32 + 2 ** 33;

/** ChaCha20 is not offered: contract with Istio's peers. AES-128 first, it costs less and both ends take it. */
const CIPHERSUITES = cString("TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384");
const GROUPS = cString("X25519:P-256:P-384:X25519MLKEM768");
const ALPN_H2 = nativeBuffer(3);
ALPN_H2.bytes.set([2, 0x68, 0x32]);
/** One read(2) takes up to four full records. */
const READ_BUFFER = 65_536 + 1024;

/** The session whose handshake is running on this thread; the callbacks below serve it. */
let handshaking: TlsSession | null = null;

const verifyCallback = registerCallback(
  "int ambit_verify_cb(uintptr_t storeCtx, uintptr_t arg)",
  (storeCtx) => {
    const session = handshaking;
    if (session === null || storeCtx === undefined) return 0;
    if (ssl.verifyCert(storeCtx) !== 1) {
      const error = ssl.storeCtxGetError(storeCtx);
      session.refusal = ssl.verifyErrorString(error);
      if (error === X509_V_ERR_CERT_NOT_YET_VALID)
        // the peer is told certificate_expired for both
        ssl.storeCtxSetError(storeCtx, X509_V_ERR_CERT_HAS_EXPIRED);
      return 0;
    }
    const leaf = ssl.storeCtxGetCert(storeCtx);
    session.peerUriSans = uriSansOf(leaf);
    session.refusal =
      (ssl.x509ExtensionFlags(leaf) & EXFLAG_CA) === 0
        ? session.check(session.peerUriSans)
        : "the peer shows a CA certificate as its own";
    if (session.refusal === null) return 1;
    ssl.storeCtxSetError(storeCtx, X509_V_ERR_NO_TRUST_DOMAIN_MATCH);
    return 0;
  },
);

const SSL_TLSEXT_ERR_OK = 0;
const SSL_TLSEXT_ERR_ALERT_FATAL = 2;
const alpnCallback = registerCallback(
  "int ambit_alpn_cb(uintptr_t ssl, uintptr_t out, uintptr_t outLength, uintptr_t offered, unsigned int length, uintptr_t arg)",
  (_ssl, out, outLength, offered, length) => {
    if (
      out === undefined ||
      outLength === undefined ||
      offered === undefined ||
      length === undefined
    )
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    const list = new Uint8Array(viewOf(offered, length));
    for (let o = 0; o < length; o += 1 + (list[o] ?? 0)) {
      if (list[o] !== 2 || list[o + 1] !== 0x68 || list[o + 2] !== 0x32) continue;
      new BigUint64Array(viewOf(out, 8))[0] = BigInt(offered + o + 1);
      new Uint8Array(viewOf(outLength, 1))[0] = 2;
      return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  },
);

/** Certificate, key and trust of one identity in one role. Owns the SSL_CTX. */
export class TlsContext implements Disposable {
  readonly role: "client" | "server";
  #ctx: number;

  /** Borrows the material. @throws {TlsError} naming what OpenSSL refused */
  constructor(material: TlsMaterial, role: "client" | "server") {
    this.role = role;
    this.#ctx = ssl.ctxNew(ssl.tlsMethod());
    try {
      this.#setUp(material);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Starts a session on a connected socket. Borrows `fd`: the caller closes it after the session. */
  open(fd: number, peerCheck: PeerCheck): TlsSession {
    return new TlsSession(this.#ctx, this.role, fd, peerCheck);
  }

  [Symbol.dispose](): void {
    if (this.#ctx !== 0) ssl.ctxFree(this.#ctx); // sessions hold their own reference
    this.#ctx = 0;
  }

  #setUp(material: TlsMaterial): void {
    const ctx = this.#ctx;
    ssl.ctxCtrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_3_VERSION, 0);
    ssl.ctxCtrl(ctx, SSL_CTRL_MODE, MODES, 0);
    ssl.ctxCtrl(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, 0, 0);
    ssl.ctxSetNumTickets(ctx, 0); // resumption is not part of HBONE
    ssl.ctxSetOptions(ctx, NO_CERTIFICATE_COMPRESSION);
    ssl.ctxCtrl(ctx, SSL_CTRL_SET_READ_AHEAD, 1, 0);
    ssl.ctxSetReadBufferLength(ctx, READ_BUFFER);
    ensure(ssl.ctxSetCiphersuites(ctx, CIPHERSUITES.address) === 1, "cipher suites");
    ensure(
      ssl.ctxCtrl(ctx, SSL_CTRL_SET_GROUPS_LIST, 0, GROUPS.address) === 1,
      "key-exchange groups",
    );
    if (this.role === "client") ssl.ctxSetAlpnProtos(ctx, ALPN_H2.address, 3);
    else ssl.ctxSetAlpnSelectCb(ctx, alpnCallback, 0);
    ssl.ctxSetVerify(ctx, SSL_VERIFY_PEER_OR_FAIL, 0);
    ssl.ctxSetCertVerifyCallback(ctx, verifyCallback, 0);
    useCertificate(ctx, material);
    const store = ssl.ctxGetCertStore(ctx);
    for (const der of material.roots)
      withCertificate(der, "root certificate", (cert) => {
        ssl.storeAddCert(store, cert);
        if (this.role === "server") ssl.ctxAddClientCa(ctx, cert);
      });
  }
}

/** One TLS connection. Owns the SSL object; borrows the socket. */
export class TlsSession implements Disposable {
  /** URI SANs of the verified peer certificate, in its order. */
  peerUriSans: readonly string[] = [];
  /** Why the peer's certificate was refused. */
  refusal: string | null = null;
  readonly check: PeerCheck;
  #ssl: number;
  #isBlocked = false;

  constructor(ctx: number, role: "client" | "server", fd: number, check: PeerCheck) {
    this.check = check;
    this.#ssl = ssl.sslNew(ctx);
    if (this.#ssl === 0) throw new TlsError(`Cannot start a TLS session: ${takeErrors()}`);
    ssl.sslSetFd(this.#ssl, fd);
    if (role === "server") ssl.sslSetAcceptState(this.#ssl);
    else ssl.sslSetConnectState(this.#ssl);
  }

  /** `"done"`, or what it waits for. @throws {TlsError} when the handshake failed; the alert is on its way */
  handshake(): "done" | "want-read" | "want-write" {
    ssl.errClear();
    handshaking = this;
    const result = ssl.sslDoHandshake(this.#ssl);
    handshaking = null;
    const error = result === 1 ? 0 : ssl.sslGetError(this.#ssl, result);
    const { refusal } = this;
    const reasons = error === SSL_ERROR_SSL && refusal === null ? takeErrors() : "";
    ssl.errClear(); // the queue is the thread's: what stays in it would be the next session's error
    if (result === 1) return "done";
    if (error === SSL_ERROR_WANT_READ) return "want-read";
    if (error === SSL_ERROR_WANT_WRITE) return "want-write";
    if (refusal !== null) throw new TlsError(refusal);
    throw new TlsError(reasons === "" ? "connection closed during handshake" : reasons);
  }

  /** Hot path: runs per record. Bytes read, WOULD_BLOCK or CLOSED. */
  read(address: number, length: number): number {
    const got = ssl.sslRead(this.#ssl, address, length);
    if (got > 0) return got;
    const error = ssl.sslGetError(this.#ssl, got);
    if (error !== SSL_ERROR_WANT_WRITE) return this.#outcome(error);
    // it asks for KeyUpdates faster than it reads our answers: waiting would spin on a readable socket
    this.refusal ??= "the peer does not read, and makes us answer";
    return CLOSED;
  }

  /**
   * Hot path: runs per record. Bytes taken over, WOULD_BLOCK or CLOSED. After WOULD_BLOCK the same bytes
   * have to come again, at any address; more may follow them.
   */
  write(address: number, length: number): number {
    const put = ssl.sslWrite(this.#ssl, address, length);
    if (put > 0) return put;
    const outcome = this.#outcome(ssl.sslGetError(this.#ssl, put));
    this.#isBlocked = outcome === WOULD_BLOCK;
    return outcome;
  }

  /** The last write found the socket full. */
  get isBlocked(): boolean {
    return this.#isBlocked;
  }

  /** The socket is writable again. */
  resume(): void {
    this.#isBlocked = false;
  }

  /** Whether OpenSSL holds bytes it has already taken from the socket. */
  hasPending(): boolean {
    return ssl.sslHasPending(this.#ssl) === 1;
  }

  /** Sends close_notify, best effort. */
  shutdown(): void {
    ssl.errClear();
    if (this.#ssl !== 0) ssl.sslShutdown(this.#ssl);
    ssl.errClear();
  }

  [Symbol.dispose](): void {
    if (this.#ssl !== 0) ssl.sslFree(this.#ssl);
    this.#ssl = 0;
  }

  #outcome(error: number): number {
    if (error === SSL_ERROR_WANT_READ || error === SSL_ERROR_WANT_WRITE) return WOULD_BLOCK;
    if (error === SSL_ERROR_ZERO_RETURN || error === SSL_ERROR_SYSCALL)
      this.refusal ??= "closed by peer";
    else this.refusal ??= takeErrors();
    ssl.errClear();
    return CLOSED;
  }
}

function useCertificate(ctx: number, material: TlsMaterial): void {
  const leaf = copyOf(material.leaf);
  ensure(ssl.ctxUseCertificateAsn1(ctx, leaf.size, leaf.address) === 1, "leaf certificate");
  for (const der of material.chain)
    withCertificate(der, "intermediate certificate", (cert) => {
      ssl.ctxCtrl(ctx, SSL_CTRL_CHAIN_CERT, 1, cert); // 1: takes a reference of its own
    });
  const der = copyOf(material.privateKey);
  const pointer = nativeBuffer(8);
  pointer.bytes.writeBigUInt64LE(BigInt(der.address));
  const key = ssl.d2iAutoPrivateKey(0, pointer.address, der.size);
  ensure(key !== 0, "private key");
  const used = ssl.ctxUsePrivateKey(ctx, key);
  ssl.pkeyFree(key);
  ensure(used === 1, "private key, which must match the leaf certificate");
}

function withCertificate(der: Uint8Array, what: string, use: (cert: number) => void): void {
  const copy = copyOf(der);
  const pointer = nativeBuffer(8);
  pointer.bytes.writeBigUInt64LE(BigInt(copy.address));
  const cert = ssl.d2iX509(0, pointer.address, copy.size);
  ensure(cert !== 0, what);
  try {
    use(cert);
  } finally {
    ssl.x509Free(cert);
  }
}

function uriSansOf(cert: number): string[] {
  const names = ssl.x509GetExtD2i(cert, NID_SUBJECT_ALT_NAME, 0, 0);
  if (names === 0) return [];
  const found: string[] = [];
  const type = nativeBuffer(4);
  const count = Math.min(ssl.skNum(names), MAX_SANS);
  for (let i = 0; i < count; i++) {
    const text = ssl.generalNameValue(ssl.skValue(names, i), type.address);
    if (type.bytes.readInt32LE(0) !== GEN_URI) continue;
    const length = ssl.asn1StringLength(text);
    if (length > 0 && length <= 2048)
      found.push(Buffer.from(viewOf(ssl.asn1StringData(text), length)).toString("latin1"));
  }
  ssl.generalNamesFree(names);
  return found;
}

function copyOf(bytes: Uint8Array): { address: number; size: number; bytes: Buffer } {
  const copy = nativeBuffer(bytes.length);
  copy.bytes.set(bytes);
  return copy;
}

function ensure(ok: boolean, what: string): void {
  if (!ok) throw new TlsError(`OpenSSL refused the ${what}: ${takeErrors()}`);
}

/** OpenSSL's queued reasons of this thread, newest last; the queue is empty afterwards. */
function takeErrors(): string {
  const reasons: string[] = [];
  for (let i = 0; i < 8; i++) {
    const code = ssl.errGetError();
    if (code === 0 || code === 0n) break;
    reasons.push(ssl.errReasonString(code) ?? `error ${code}`);
  }
  ssl.errClear();
  return reasons.length === 0 ? "unknown reason" : reasons.join(", ");
}
