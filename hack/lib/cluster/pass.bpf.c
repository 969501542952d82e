// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// An XDP program that passes everything: a veth takes frames that its peer sends by XDP only while it has a program
// itself.
__attribute__((section("xdp"), used)) int pass(void* context) {
  (void)context;
  return 2;  // XDP_PASS
}

char license_text[] __attribute__((section("license"), used)) = "Dual BSD/GPL";
