import assert from "node:assert/strict";
import test from "node:test";
import { choosePodIps, joinResults } from "./result.ts";

const bridge = {
  interfaces: [
    { name: "cni0", mac: "02:00:00:00:00:01" },
    { name: "veth1" },
    { name: "eth0", mac: "02:00:00:00:00:02", sandbox: "/var/run/netns/x" },
  ],
  ips: [
    { address: "fd00::5/64", gateway: "fd00::1", interface: 2 },
    { address: "10.1.0.5/16", gateway: "10.1.0.1", interface: 2 },
  ],
  routes: [{ dst: "0.0.0.0/0" }],
};

test("results of networks are joined as containerd joins them", () => {
  const joined = joinResults([
    { interfaces: [{ name: "lo" }], ips: [{ address: "127.0.0.1/8", interface: 0 }] },
    bridge,
  ]);
  assert.deepEqual(Object.keys(joined.Interfaces), ["eth0", "lo", "cni0", "veth1"]);
  assert.deepEqual(joined.Interfaces["eth0"], {
    IPConfigs: [
      { IP: "fd00::5", Gateway: "fd00::1" },
      { IP: "10.1.0.5", Gateway: "10.1.0.1" },
    ],
    Mac: "02:00:00:00:00:02",
    Sandbox: "/var/run/netns/x",
    PciID: "",
    SocketPath: "",
  });
  assert.deepEqual(joined.Routes, [{ dst: "0.0.0.0/0" }]);
  assert.equal(joined.DNS.length, 2);
  assert.throws(() => joinResults([{ ips: [{ address: "1.2.3.4/8", interface: 3 }] }]), /invalid IP configuration/);
});

test("addresses without an interface are those of the default interface", () => {
  const joined = joinResults([{ ips: [{ address: "10.0.0.2/8" }] }]);
  assert.deepEqual(joined.Interfaces["eth0"]?.IPConfigs, [{ IP: "10.0.0.2", Gateway: "" }]);
});

test("the address of a pod is of the preferred version, and the others follow in their order", () => {
  const joined = joinResults([bridge]);
  assert.deepEqual(choosePodIps(joined, "ipv4"), { ip: "10.1.0.5", additionalIps: ["fd00::5"] });
  assert.deepEqual(choosePodIps(joined, "ipv6"), { ip: "fd00::5", additionalIps: ["10.1.0.5"] });
  assert.deepEqual(choosePodIps(joined, "cni"), { ip: "fd00::5", additionalIps: ["10.1.0.5"] });
  const single = joinResults([{ ips: [{ address: "fd00::9/64" }] }]);
  assert.deepEqual(choosePodIps(single, "ipv4"), { ip: "fd00::9", additionalIps: [] });
  assert.equal(choosePodIps(joinResults([]), "ipv4"), undefined);
});
