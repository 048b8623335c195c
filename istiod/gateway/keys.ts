// Labels and annotations by which Gateways, what is deployed for them, and their settings are told.

/** Of everything deployed for a Gateway, its Pods included: the Gateway's name. */
export const GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name";
export const GATEWAY_CLASS_NAME = "gateway.networking.k8s.io/gateway-class-name";
/** Who deployed an object. Without this label an object is never touched. */
export const MANAGED = "gateway.istio.io/managed";
/** Selector of Deployments made before Istio 1.24; a selector cannot be changed. */
export const OLD_GATEWAY_NAME = "istio.io/gateway-name";

export const NAME_OVERRIDE = "gateway.istio.io/name-override";
export const SERVICE_ACCOUNT = "gateway.istio.io/service-account";
export const CONTROLLER_VERSION = "gateway.istio.io/controller-version";
export const SERVICE_TYPE = "networking.istio.io/service-type";
export const ADDRESS_TYPE = "networking.istio.io/address-type";
export const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/** Of ConfigMaps in the system namespace: overlays for every Gateway of the class. */
export const CLASS_DEFAULTS = "gateway.istio.io/defaults-for-class";
export const REVISION = "istio.io/rev";
/** Of Services in the system namespace that stand for a tag of the revision in their `istio.io/rev`. */
export const TAG = "istio.io/tag";

/** Whose Gateway API objects and statuses are ours, and the field manager of what is deployed. */
export const CONTROLLER_NAME = "istio.io/gateway-controller";
