# Run by PID 1 of the node's namespaces before anything else: addresses, mounts and cgroups of its own.
# $1: a directory for what would be written below /var.
set -eu

hostname node0
ip link set lo up
# The only interface is a pair with both ends in here, so nothing can leave. Services need some route to be sent along.
ip link add node0 type veth peer name uplink
ip address add 10.99.0.2/24 dev node0
ip address add 10.99.0.3/24 dev node0
ip link set uplink up
ip link set node0 up
ip route add default via 10.99.0.1 dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward

mount -t tmpfs tmpfs /run
for name in lib log; do
    mkdir -p "$1/$name/upper" "$1/$name/work"
    mount -t overlay overlay -o "lowerdir=/var/$name,upperdir=$1/$name/upper,workdir=$1/$name/work" "/var/$name"
done

# What the namespace shows as the root of each hierarchy is the subtree that this process was started in.
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # A cgroup that hands controllers down holds no processes itself.
    mkdir /sys/fs/cgroup/init
    while read -r process; do echo "$process" >/sys/fs/cgroup/init/cgroup.procs; done </sys/fs/cgroup/cgroup.procs
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
    done
else
    umount -R /sys/fs/cgroup
    mount -t tmpfs tmpfs /sys/fs/cgroup
    # Without name=systemd, containerd finds no cgroup of a Pod, and does not see that it ran out of memory.
    cut -d: -f2 /proc/self/cgroup | while read -r hierarchy; do
        [ -n "$hierarchy" ] || continue
        mkdir "/sys/fs/cgroup/${hierarchy#name=}"
        mount -t cgroup -o "$hierarchy" cgroup "/sys/fs/cgroup/${hierarchy#name=}"
    done
fi
