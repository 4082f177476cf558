#include "twin.h"

struct request {
	__s64 seconds;
	__s32 nanoseconds;
	__u32 flags;
	__u16 rate;
	__u8 scale, mode;
	__u64 ticks;
	__s64 days;
	__s32 left, status;
};

SEC("syscall")
int convert(struct request *ctx)
{
	__u64 ticks, seconds;
	__s64 total;

	if (ctx->nanoseconds < 0 || ctx->nanoseconds >= 1000000000) {
		ctx->status = -22;
		return 1;
	}
	if (!ctx->rate) {
		ctx->status = -33;
		return 2;
	}
	total = ctx->seconds * 1000000000 + ctx->nanoseconds;
	ticks = (__u64)total / ctx->rate;
	if (ctx->flags & 1)
		ticks <<= ctx->scale & 7;
	if (ctx->flags & 2)
		ticks = (__u32)ticks;
	if (ctx->flags & 0x10 && ctx->mode > 3)
		ticks++;
	ctx->ticks = ticks;
	seconds = ctx->seconds;
	ctx->days = seconds / 86400;
	ctx->left = seconds % 86400;
	ctx->status = 0;
	return 0;
}
