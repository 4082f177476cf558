#include "twin.h"
#include <bpf/bpf_endian.h>
#include <linux/pkt_cls.h>

struct eth {
	__u16 dst[3], src[3];
	__be16 proto;
} __attribute__((packed));

struct ipv4 {
	__u8 ver_ihl, tos;
	__be16 tot_len, id, frag;
	__u8 ttl, proto;
	__be16 csum;
	__u32 saddr, daddr;
};

struct icmp {
	__u8 type, code;
	__be16 csum, id, seq;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("xdp")
int echo(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	struct ipv4 *ip = data + 14;
	struct icmp *icmp = data + 34;
	__u32 total, here;

	if ((void *)(eth + 1) > end || eth->proto != bpf_htons(0x0800))
		return XDP_PASS;
	if ((void *)(ip + 1) > end || ip->ver_ihl != 0x45 || ip->proto != 1)
		return XDP_PASS;
	if ((void *)(icmp + 1) > end || icmp->type != 8 || icmp->code)
		return XDP_PASS;
	for (int i = 0; i < 3; i++) {
		__u16 mine = eth->dst[i];

		eth->dst[i] = eth->src[i];
		eth->src[i] = mine;
	}
	here = ip->daddr;
	ip->daddr = ip->saddr;
	ip->saddr = here;
	/* The type falls by 8 in the upper byte of its word; what the sum loses there it gains, end-around. */
	icmp->type = 0;
	total = bpf_ntohs(icmp->csum) + 0x0800;
	icmp->csum = bpf_htons((total & 0xffff) + (total >> 16));
	return XDP_TX;
}

SEC("tc")
int hop(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv4 *ip = data + 14;
	__u32 proto, total;
	__u64 *count;

	if ((void *)(ip + 1) > end || ip->ver_ihl != 0x45)
		return TC_ACT_OK;
	proto = ip->proto;
	count = bpf_map_lookup_elem(&seen, &proto);
	if (count)
		*count += 1;
	if (ip->ttl <= 1)
		return TC_ACT_SHOT;
	ip->ttl--;
	total = bpf_ntohs(ip->csum) + 0x0100;
	ip->csum = bpf_htons((total & 0xffff) + (total >> 16));
	return TC_ACT_OK;
}
