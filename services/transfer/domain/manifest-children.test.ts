import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { isFailure } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import { childrenOf, parseImageConfig, parseManifest } from "#containerd/image-manifest.ts";
import { MediaType } from "#containerd/media-types.ts";
import { orderedPlatforms, parsePlatform } from "#containerd/platform.ts";
import { selectChildren, sortByPlatform } from "./child-filter.ts";
import { childLabels } from "./child-labels.ts";
import { refKeyOf } from "./ref-key.ts";

const digest = digestOf("x");
const of = (mediaType: string, more: object = {}) => ({ mediaType, digest, size: 1, ...more });
const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const layer = "application/vnd.oci.image.layer.v1.tar+gzip";

test("a manifest has its configuration and layers as children, an index its manifests", () => {
  const manifest = parseManifest(
    bytes({ config: of(MediaType.ociConfig), layers: [of(layer, { urls: ["u", 1], annotations: { a: "b", c: 1 } })] }),
    of(MediaType.ociManifest),
  );
  assert.deepEqual(childrenOf(manifest), [
    of(MediaType.ociConfig),
    of(layer, { urls: ["u"], annotations: { a: "b" } }),
  ]);
  const index = parseManifest(bytes({ manifests: [of(MediaType.ociManifest)] }), of(MediaType.ociIndex));
  assert.deepEqual(childrenOf(index), [of(MediaType.ociManifest)]);
  assert.deepEqual(childrenOf(parseManifest(bytes({ manifests: null }), of(MediaType.ociIndex))), []);
});

test("a document that is something else than its media type says is refused", () => {
  const refused = (document: object, mediaType: string, message: RegExp): void => {
    assert.throws(() => parseManifest(bytes(document), of(mediaType)), { message });
  };
  refused({ manifests: [] }, MediaType.ociManifest, /media-type: expected manifest but found index/);
  refused(
    { mediaType: MediaType.ociIndex, config: of("") },
    MediaType.ociManifest,
    /expected manifest but found index/,
  );
  refused({ config: of("") }, MediaType.dockerManifestList, /expected index but found manifest/);
  refused({ fsLayers: [] }, MediaType.ociManifest, /schema 1 not supported/);
  refused({ config: { digest: "../../etc/passwd", size: 1 } }, MediaType.ociManifest, /without a digest/);
  refused({ config: { digest, size: -1 } }, MediaType.ociManifest, /without its size/);
  refused({ config: { digest, size: 1.5 } }, MediaType.ociManifest, /without its size/);
  refused({ manifests: Array.from({ length: 10_001 }, () => of("")) }, MediaType.ociIndex, /at most 10000/);
});

test("whatever a document is, it is read or refused", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.json(), fc.string()),
      fc.constantFrom(MediaType.ociManifest, MediaType.ociIndex),
      (text, type) => {
        for (const read of [
          () => parseManifest(Buffer.from(text), of(type)),
          () => parseImageConfig(Buffer.from(text), digest),
        ]) {
          try {
            read();
          } catch (error) {
            assert.ok(isFailure(error), String(error));
          }
        }
      },
    ),
  );
});

/** @source containerd v2.3.4 core/images/handlers_test.go `TestSetChildrenLabels` */
test("children are referred to by labels of their kind, each kind counted", () => {
  const other = digestOf("other");
  assert.deepEqual(
    childLabels([
      of(MediaType.ociConfig),
      of(layer),
      of(layer, { digest: other }),
      of(MediaType.ociManifest),
      of("text/plain"),
      of(MediaType.ociConfig),
      of("text/plain", { annotations: { "io.containerd.manifest.subject": "s" } }),
    ]),
    {
      "containerd.io/gc.ref.content.config": digest,
      "containerd.io/gc.ref.content.l.0": digest,
      "containerd.io/gc.ref.content.l.1": other,
      "containerd.io/gc.ref.content.m.0": digest,
      "containerd.io/gc.ref.content.0": digest,
      "containerd.io/gc.ref.content.config1": digest,
      [`containerd.io/gc.ref.content.referrer.sha256.${digest.slice(7, 19)}`]: digest,
    },
  );
});

test("names of what is on its way tell its kind, its tag and its digest", () => {
  assert.equal(refKeyOf(of(layer)), `layer-${digest}`);
  assert.equal(refKeyOf(of("text/plain")), `unknown-${digest}`);
  assert.equal(refKeyOf(of("application/vnd.in-toto+json")), `attestation-${digest}`);
  assert.equal(
    refKeyOf(of(MediaType.ociIndex, { annotations: { "org.opencontainers.image.ref.name": "1" } })),
    `index-1@${digest}`,
  );
});

test("the wanted platforms are chosen, the best first when there is a limit", () => {
  const [arm, amd, none] = [
    of(MediaType.ociManifest, { platform: { os: "linux", architecture: "arm64" } }),
    of(MediaType.ociManifest, { platform: { os: "linux", architecture: "amd64" } }),
    of(MediaType.ociManifest),
  ];
  const platforms = [parsePlatform("linux/amd64"), parsePlatform("linux/arm64")];
  const choose = (allMetadata: boolean, manifestLimit: number, wanted = platforms) =>
    selectChildren({ platforms: wanted, allMetadata, manifestLimit });
  const index = of(MediaType.ociIndex);
  assert.deepEqual(choose(false, 0, platforms.slice(0, 1))(index, [arm, amd, none]), [amd, none]);
  assert.deepEqual(choose(false, 1)(index, [none, arm, amd]), [amd]);
  assert.deepEqual(choose(true, 0, platforms.slice(0, 1))(index, [arm, amd, none]), [arm, amd, none]);
  const children = [of(MediaType.ociConfig), of(layer)];
  assert.deepEqual(choose(true, 0, platforms.slice(0, 1))(arm, children), [of(MediaType.ociConfig)]);
  assert.deepEqual(choose(true, 0, platforms.slice(0, 1))(amd, children), children);
  assert.throws(() => choose(false, 1)(index, []), { message: "no match for platform in manifest: not found" });
  assert.deepEqual(sortByPlatform(orderedPlatforms(platforms), [none, arm, amd]), [amd, arm, none]);
});
