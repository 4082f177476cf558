#include "twin.h"
#include <bpf/bpf_endian.h>

struct ipv4 {
	__u8 ver_ihl, tos;
	__be16 tot_len, id, frag;
	__u8 ttl, proto;
	__u16 csum;
	__be32 saddr, daddr;
};

struct ports {
	__be16 sport, dport;
};

struct packet {
	__u32 length;
	__be16 ethertype;
	__u16 pad;
	__u8 data[128];
};

struct flow {
	__u32 saddr, daddr;
	__u16 sport, dport;
	__u8 proto;
};

struct count {
	__u64 packets, bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct flow);
	__type(value, struct count);
} flows SEC(".maps");

SEC("raw_tp/packet")
int packet(void *ctx)
{
	struct flow key = {};
	struct count *found;
	struct ports *ports;
	struct packet *p;
	struct ipv4 *ip;
	__u32 zero = 0;
	__u64 ihl;

	p = bpf_map_lookup_elem(&packets, &zero);
	if (!p || p->ethertype != bpf_htons(0x0800) || p->length < 24)
		return 0;
	ip = (struct ipv4 *)p->data;
	if (ip->ver_ihl >> 4 != 4)
		return 1;
	ihl = (ip->ver_ihl & 15) * 4;
	if (ihl < 20)
		return 2;
	if (ip->proto != 6 && ip->proto != 17)
		return 3;
	ports = (struct ports *)&p->data[ihl];
	key.saddr = bpf_ntohl(ip->saddr);
	key.daddr = bpf_ntohl(ip->daddr);
	key.sport = bpf_ntohs(ports->sport);
	key.dport = bpf_ntohs(ports->dport);
	key.proto = ip->proto;
	found = bpf_map_lookup_elem(&flows, &key);
	if (found) {
		found->packets += 1;
		found->bytes += bpf_ntohs(ip->tot_len);
	} else {
		struct count first = {.packets = 1, .bytes = bpf_ntohs(ip->tot_len)};

		bpf_map_update_elem(&flows, &key, &first, BPF_ANY);
	}
	return key.dport;
}
