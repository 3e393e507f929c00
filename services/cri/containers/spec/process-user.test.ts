import assert from "node:assert/strict";
import test from "node:test";
import { type ImageUsers, processUser, type UserWishes } from "./process-user.ts";
import { parseGroups, parseUsers } from "./user-database.ts";

const image: ImageUsers = {
  users: parseUsers("root:x:0:0:root:/root:/bin/sh\n\nweb:x:1000:50::/home/web:\nbroken\nodd:x:abc:7\n"),
  groups: parseGroups("root:x:0:\n# note:x:5:web\nweb:x:50:web\nlogs:x:51:web,root\nadmin:x:52:web\n"),
};
const nobody: ImageUsers = { users: undefined, groups: undefined };

function userOf(wishes: Partial<UserWishes>, users: ImageUsers = image) {
  return processUser(
    {
      username: "",
      uid: undefined,
      gid: undefined,
      imageUser: "",
      supplementalGroups: [],
      mergesImageGroups: true,
      ...wishes,
    },
    users,
  );
}

test("a user is taken by name or number, from the configuration before the image", () => {
  assert.deepEqual(userOf({}, nobody), { uid: 0, gid: 0, additionalGids: [0] });
  assert.deepEqual(userOf({ imageUser: "web" }), { uid: 1000, gid: 50, additionalGids: [50, 51, 52] });
  assert.deepEqual(userOf({ imageUser: "web:logs" }), { uid: 1000, gid: 51, additionalGids: [51, 52] });
  assert.deepEqual(userOf({ imageUser: "web", uid: 7n }), { uid: 7, gid: 0, additionalGids: [0] });
  assert.deepEqual(userOf({ username: "web", uid: 7n, gid: 9n }), {
    uid: 1000,
    gid: 9,
    additionalGids: [9, 51, 52],
  });
  assert.deepEqual(userOf({ uid: 1000n }), { uid: 1000, gid: 50, additionalGids: [50, 51, 52] });
  assert.deepEqual(userOf({ uid: 4n, gid: 5n }, nobody), { uid: 4, gid: 5, additionalGids: [5] });
});

test("groups of the image count unless the policy is strict", () => {
  const wishes = { uid: 1000n, supplementalGroups: [60n, 51n, 60n] };
  assert.deepEqual(userOf(wishes).additionalGids, [50, 51, 52, 60]);
  assert.deepEqual(userOf({ ...wishes, mergesImageGroups: false }).additionalGids, [50, 51, 60]);
  assert.deepEqual(userOf({ mergesImageGroups: false }), { uid: 0, gid: 0 });
});

test("users that there are not, and numbers out of range, are refused in containerd's words", () => {
  const refuses = (wishes: Partial<UserWishes>, message: string, users = image): void => {
    assert.throws(() => userOf(wishes, users), { message });
  };
  refuses({ username: "mallory" }, "no users found");
  refuses({ username: "web" }, "open etc/passwd: no such file or directory", nobody);
  refuses({ imageUser: "0:mallory" }, "no groups found");
  refuses({ gid: 5n }, 'failed to generate user string: user group "5" is specified without user');
  refuses({ imageUser: "2147483648" }, 'invalid USER value "2147483648": uid out of range');
  refuses({ imageUser: "-1" }, 'invalid USER value "-1": uid out of range');
  refuses({ imageUser: "1:99999999999999999999" }, 'invalid USER value "1:99999999999999999999": gid out of range');
  refuses({ imageUser: "a:b:c" }, "invalid USER value a:b:c");
});

test("files of users are read however they are written", () => {
  assert.deepEqual(parseUsers("broken\nodd:x:abc:7\r\n  spaced:x:3:4  \n"), [
    { name: "broken", uid: 0, gid: 0 },
    { name: "odd", uid: 0, gid: 7 },
    { name: "spaced", uid: 3, gid: 4 },
  ]);
  assert.deepEqual(parseGroups("one:x:1:a,b\nnone:x:2"), [
    { name: "one", gid: 1, members: ["a", "b"] },
    { name: "none", gid: 2, members: [] },
  ]);
});
