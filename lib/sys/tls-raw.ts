// OpenSSL as the node binary exports it: declarations only, by manual page (3.x).
import { declareFunction as declare } from "./raw.ts";

// SSL_CTX_new(3)
export const tlsMethod = declare<() => number>("uintptr_t TLS_method()");
export const ctxNew = declare<(method: number) => number>(
  "uintptr_t SSL_CTX_new(uintptr_t method)",
);
export const ctxFree = declare<(ctx: number) => void>("void SSL_CTX_free(uintptr_t ctx)");
// SSL_CTX_ctrl(3): modes, versions, groups, read-ahead, chain
export const ctxCtrl = declare<(ctx: number, cmd: number, larg: number, parg: number) => number>(
  "long SSL_CTX_ctrl(uintptr_t ctx, int cmd, long larg, uintptr_t parg)",
);
// SSL_CTX_set_options(3)
export const ctxSetOptions = declare<(ctx: number, options: number) => number>(
  "uint64_t SSL_CTX_set_options(uintptr_t ctx, uint64_t options)",
);
// SSL_CTX_set_cipher_list(3)
export const ctxSetCiphersuites = declare<(ctx: number, list: number) => number>(
  "int SSL_CTX_set_ciphersuites(uintptr_t ctx, uintptr_t list)",
);
// SSL_CTX_use_certificate(3)
export const ctxUseCertificateAsn1 = declare<(ctx: number, length: number, der: number) => number>(
  "int SSL_CTX_use_certificate_ASN1(uintptr_t ctx, int length, uintptr_t der)",
);
export const ctxUsePrivateKey = declare<(ctx: number, key: number) => number>(
  "int SSL_CTX_use_PrivateKey(uintptr_t ctx, uintptr_t key)",
);
// d2i_PrivateKey(3)
export const d2iAutoPrivateKey = declare<(out: number, der: number, length: number) => number>(
  "uintptr_t d2i_AutoPrivateKey(uintptr_t out, uintptr_t der, long length)",
);
export const pkeyFree = declare<(key: number) => void>("void EVP_PKEY_free(uintptr_t key)");
// SSL_CTX_set_verify(3), SSL_CTX_set_cert_verify_callback(3)
export const ctxSetVerify = declare<(ctx: number, mode: number, callback: number) => void>(
  "void SSL_CTX_set_verify(uintptr_t ctx, int mode, uintptr_t callback)",
);
export const ctxSetCertVerifyCallback = declare<(ctx: number, cb: number, arg: number) => void>(
  "void SSL_CTX_set_cert_verify_callback(uintptr_t ctx, uintptr_t cb, uintptr_t arg)",
);
// SSL_CTX_set_alpn_select_cb(3)
export const ctxSetAlpnProtos = declare<(ctx: number, protos: number, length: number) => number>(
  "int SSL_CTX_set_alpn_protos(uintptr_t ctx, uintptr_t protos, unsigned int length)",
);
export const ctxSetAlpnSelectCb = declare<(ctx: number, cb: number, arg: number) => void>(
  "void SSL_CTX_set_alpn_select_cb(uintptr_t ctx, uintptr_t cb, uintptr_t arg)",
);
// SSL_CTX_set_num_tickets(3), SSL_CTX_set_default_read_buffer_len(3)
export const ctxSetNumTickets = declare<(ctx: number, count: number) => number>(
  "int SSL_CTX_set_num_tickets(uintptr_t ctx, size_t count)",
);
export const ctxSetReadBufferLength = declare<(ctx: number, length: number) => void>(
  "void SSL_CTX_set_default_read_buffer_len(uintptr_t ctx, size_t length)",
);
// SSL_CTX_load_verify_locations(3), SSL_CTX_set0_CA_list(3)
export const ctxGetCertStore = declare<(ctx: number) => number>(
  "uintptr_t SSL_CTX_get_cert_store(uintptr_t ctx)",
);
export const storeAddCert = declare<(store: number, cert: number) => number>(
  "int X509_STORE_add_cert(uintptr_t store, uintptr_t cert)",
);
export const ctxAddClientCa = declare<(ctx: number, cert: number) => number>(
  "int SSL_CTX_add_client_CA(uintptr_t ctx, uintptr_t cert)",
);
// SSL_new(3) and friends
export const sslNew = declare<(ctx: number) => number>("uintptr_t SSL_new(uintptr_t ctx)");
export const sslFree = declare<(ssl: number) => void>("void SSL_free(uintptr_t ssl)");
export const sslSetFd = declare<(ssl: number, fd: number) => number>(
  "int SSL_set_fd(uintptr_t ssl, int fd)",
);
export const sslSetAcceptState = declare<(ssl: number) => void>(
  "void SSL_set_accept_state(uintptr_t ssl)",
);
export const sslSetConnectState = declare<(ssl: number) => void>(
  "void SSL_set_connect_state(uintptr_t ssl)",
);
export const sslDoHandshake = declare<(ssl: number) => number>(
  "int SSL_do_handshake(uintptr_t ssl)",
);
export const sslRead = declare<(ssl: number, buffer: number, length: number) => number>(
  "int SSL_read(uintptr_t ssl, uintptr_t buffer, int length)",
);
export const sslWrite = declare<(ssl: number, buffer: number, length: number) => number>(
  "int SSL_write(uintptr_t ssl, uintptr_t buffer, int length)",
);
export const sslHasPending = declare<(ssl: number) => number>("int SSL_has_pending(uintptr_t ssl)");
export const sslGetError = declare<(ssl: number, result: number) => number>(
  "int SSL_get_error(uintptr_t ssl, int result)",
);
export const sslShutdown = declare<(ssl: number) => number>("int SSL_shutdown(uintptr_t ssl)");
// X509_verify_cert(3), X509_STORE_CTX_get_error(3)
export const verifyCert = declare<(storeCtx: number) => number>(
  "int X509_verify_cert(uintptr_t storeCtx)",
);
export const storeCtxGetError = declare<(storeCtx: number) => number>(
  "int X509_STORE_CTX_get_error(uintptr_t storeCtx)",
);
export const storeCtxSetError = declare<(storeCtx: number, error: number) => void>(
  "void X509_STORE_CTX_set_error(uintptr_t storeCtx, int error)",
);
export const storeCtxGetCert = declare<(storeCtx: number) => number>(
  "uintptr_t X509_STORE_CTX_get0_cert(uintptr_t storeCtx)",
);
export const verifyErrorString = declare<(error: number) => string>(
  "const char *X509_verify_cert_error_string(long error)",
);
// X509_get_extension_flags(3)
export const x509ExtensionFlags = declare<(cert: number) => number>(
  "uint32_t X509_get_extension_flags(uintptr_t cert)",
);
// d2i_X509(3), X509_get_ext_d2i(3), OPENSSL_sk_num(3)
export const d2iX509 = declare<(out: number, der: number, length: number) => number>(
  "uintptr_t d2i_X509(uintptr_t out, uintptr_t der, long length)",
);
export const x509Free = declare<(cert: number) => void>("void X509_free(uintptr_t cert)");
export const x509GetExtD2i = declare<
  (cert: number, nid: number, critical: number, index: number) => number
>("uintptr_t X509_get_ext_d2i(uintptr_t cert, int nid, uintptr_t critical, uintptr_t index)");
export const generalNamesFree = declare<(names: number) => void>(
  "void GENERAL_NAMES_free(uintptr_t names)",
);
export const skNum = declare<(stack: number) => number>("int OPENSSL_sk_num(uintptr_t stack)");
export const skValue = declare<(stack: number, index: number) => number>(
  "uintptr_t OPENSSL_sk_value(uintptr_t stack, int index)",
);
export const generalNameValue = declare<(name: number, type: number) => number>(
  "uintptr_t GENERAL_NAME_get0_value(uintptr_t name, uintptr_t type)",
);
export const asn1StringData = declare<(string: number) => number>(
  "uintptr_t ASN1_STRING_get0_data(uintptr_t string)",
);
export const asn1StringLength = declare<(string: number) => number>(
  "int ASN1_STRING_length(uintptr_t string)",
);
// ERR_get_error(3)
export const errGetError = declare<() => number | bigint>("uint64_t ERR_get_error()");
export const errClear = declare<() => void>("void ERR_clear_error()");
export const errReasonString = declare<(code: number | bigint) => string | null>(
  "const char *ERR_reason_error_string(uint64_t code)",
);
