"""Machines as their file systems and their NVML would show them; each detects to tests/machines/NAME.json."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.hardware.standin import Card, Nvml, Slice
from uvtorch.hardware.scene import Host
from uvtorch.machine import Machine, Platform, to_document

MACHINES = Path(__file__).parent.parent / "machines"

LINUX = Host(Platform("linux", "x86_64", "glibc 2.39"), "6.8.0-51-generic")
ARM = Host(Platform("linux", "aarch64", "glibc 2.39"), "6.11.0-1016-nvidia")
WSL = Host(Platform("linux", "x86_64", "glibc 2.39"), "6.6.87.2-microsoft-standard-WSL2")
LIBRARY = "/usr/lib/x86_64-linux-gnu"


def to_json(machine: Machine) -> str:
    """A machine's description as `detect --json` prints it."""
    return json.dumps(to_document(machine), indent=2)


class Link(str):
    """A symbolic link's target."""


class Copy(str):
    """The path of a file to copy."""


class Script(str):
    """An executable's text."""


def lay_out(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, Link):
            place.symlink_to(text)
        elif isinstance(text, Copy):
            shutil.copy(text, place)
        else:
            place.write_bytes(text.encode())
            if isinstance(text, Script):
                place.chmod(0o755)


class Scene(NamedTuple):
    host: Host = LINUX
    files: Mapping[str, str] = {}
    nvml: Nvml | None = None
    library: str = LIBRARY
    env: Mapping[str, str] = {}
    lists_adapters: tuple[Mapping[str, object], ...] = ()  # Windows: the registry's rows


def pci(address: str, pci_id: str, driver: str | None = None, kind: str = "03sc00") -> dict[str, str]:
    """A display controller on the bus, as sysfs shows it."""
    vendor, device = pci_id.upper().split(":")
    folder = f"/sys/bus/pci/devices/{address}"
    files = {f"{folder}/modalias": f"pci:v0000{vendor}d0000{device}sv00001234sd00005678bc{kind}i00\n"}
    if driver:
        files[f"{folder}/driver"] = Link(f"../../../../bus/pci/drivers/{driver}")
    return files


OTHER_PCI = {
    **pci("0000:00:00.0", "8086:3e30", None, "06sc00"),  # a host bridge
    **pci("0000:02:00.0", "1a03:2000", "ast"),  # a server's management display
}


def module(version: str, arch: str = "x86_64", *, is_open: bool = True) -> dict[str, str]:
    """The kernel module's own files."""
    kind = f"UNIX Open Kernel Module for {arch}" if is_open else f"UNIX {arch} Kernel Module"
    text = (
        f"NVRM version: NVIDIA {kind}  {version}  Release Build  (dvs-builder@U22-I3-H04-01-5)  Tue Apr  8 2025\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
    )
    return {"/proc/driver/nvidia/version": text, "/sys/module/nvidia/version": f"{version}\n"}


def nodes(count: int) -> dict[str, str]:
    """NVIDIA's device files."""
    return {"/dev/nvidiactl": "", **{f"/dev/nvidia{number}": "" for number in range(count)}}


def cards(driver: str, cuda: int, *found: Card, host: Host = LINUX, pci_id: str = "10de:2330", **more: str) -> Scene:
    """A Linux machine with a working driver."""
    files = {**OTHER_PCI, **module(driver, host.platform.machine), **nodes(len(found))}
    for number in range(len(found)):
        files |= pci(f"0000:{number + 16:02x}:00.0", pci_id, "nvidia", "03sc02")
    folder = LIBRARY.replace("x86_64", host.platform.machine)
    return Scene(host, files, Nvml(driver, cuda, found), folder, more)


def beside(scene: Scene, files: Mapping[str, str]) -> Scene:
    return scene._replace(files={**scene.files, **files})


def container(scene: Scene) -> Scene:
    return scene._replace(files={**scene.files, "/.dockerenv": ""})


H100 = Card("NVIDIA H100 80GB HBM3", "9.0", 81559, mig=0)
H200 = Card("NVIDIA H200", "9.0", 143771, mig=0)
A100 = Card("NVIDIA A100-SXM4-40GB", "8.0", 40960, mig=0)
V100 = Card("Tesla V100-SXM2-32GB", "7.0", 32768)
B200 = Card("NVIDIA B200", "10.0", 183359, mig=0)
SLICES = (
    Slice("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19968, "MIG-5ba41e2c-7b0e-5a3d-8c44-1f6cfe1b7a01"),
    Slice("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4864, "MIG-9d2c41b0-1c0e-5b1f-9a7d-3d1de8a0f802"),
)


def kfd(*gpus: tuple[str, int, str], dev: bool = True) -> dict[str, str]:
    """AMD's compute topology: a processor's node and one for each (PCI id, gfx_target_version, product)."""
    base = "/sys/class/kfd/kfd/topology/nodes"
    files = {
        f"{base}/0/properties": "cpu_cores_count 64\nsimd_count 0\nmem_banks_count 1\nvendor_id 0\n"
        "device_id 0\ngfx_target_version 0\ndrm_render_minor 0\n",
    }
    if dev:
        files["/dev/kfd"] = ""
    for number, (pci_id, version, product) in enumerate(gpus, 1):
        vendor, device = (int(part, 16) for part in pci_id.split(":"))
        files |= pci(f"0000:{number + 32:02x}:00.0", pci_id, "amdgpu", "12sc00" if version // 100 == 904 else "03sc00")
        files[f"{base}/{number}/properties"] = (
            f"cpu_cores_count 0\nsimd_count 304\nmem_banks_count 1\nvendor_id {vendor}\ndevice_id {device}\n"
            f"location_id 8448\ndomain 0\ndrm_render_minor {127 + number}\nunique_id {0xA1B2C3D4E5F60000 + number}\n"
            f"gfx_target_version {version}\n"
        )
        if product:
            files[f"/sys/class/drm/renderD{127 + number}/device/product_name"] = f"{product}\n"
    return files


def amd(*gpus: tuple[str, int, str], **env: str) -> Scene:
    return Scene(files={**OTHER_PCI, **kfd(*gpus)}, env=env)


def intel(pci_id: str, driver: str | None = "xe") -> Scene:
    return Scene(files={**OTHER_PCI, **pci("0000:00:02.0", pci_id, driver), "/dev/dri/renderD128": ""})


H100S = cards("570.124.06", 12080, *[H100] * 8)
GH200 = Card("NVIDIA GH200 480GB", "9.0", 97871, mig=0)
GB200 = Card("NVIDIA GB200", "10.0", 189471, mig=0)
RTX4090 = Card("NVIDIA GeForce RTX 4090", "8.9", 24564)
JETSON = Host(Platform("linux", "aarch64", "glibc 2.35"), "5.15.148-tegra")
ORIN_RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    "# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
)


def adapter(pci_id: str, name: str) -> dict[str, object]:
    """A display adapter in Windows' registry."""
    vendor, device = pci_id.split(":")
    return {"MatchingDeviceId": f"pci\\ven_{vendor}&dev_{device}&subsys_50141462", "DriverDesc": name}


WINDOWS = Host(Platform("windows", "x86_64"))

SCENES: dict[str, Scene] = {
    "cpu-only": Scene(files=OTHER_PCI),
    "cpu-only-container": container(Scene(files=OTHER_PCI)),
    "cpu-aarch64": Scene(Host(Platform("linux", "aarch64", "glibc 2.36"), "6.1.0-28-arm64"), OTHER_PCI),
    "alpine-musl": Scene(Host(Platform("linux", "x86_64", "musl 1.2.5"), "6.12.8-0-lts"), OTHER_PCI),
    "riscv64": Scene(Host(Platform("linux", "riscv64", "glibc 2.39"), "6.8.0-51-generic")),
    # NVIDIA, one model each
    "k80-470": cards("470.256.02", 11040, *[Card("Tesla K80", "3.7", 11441)] * 2, pci_id="10de:102d"),
    "gtx960-525": cards("525.147.05", 12000, Card("NVIDIA GeForce GTX 960", "5.2", 4096), pci_id="10de:1401"),
    "gtx1080-580": cards("580.95.05", 13000, Card("NVIDIA GeForce GTX 1080", "6.1", 8192), pci_id="10de:1b80"),
    "p100-535": cards("535.183.01", 12020, Card("Tesla P100-PCIE-16GB", "6.0", 16384), pci_id="10de:15f8"),
    "v100-535": cards("535.183.01", 12020, V100, pci_id="10de:1db5"),
    "v100-580": cards("580.95.05", 13000, V100, pci_id="10de:1db5"),
    "t4-470": cards("470.256.02", 11040, Card("Tesla T4", "7.5", 15360), pci_id="10de:1eb8"),
    "t4-450": cards("450.248.02", 11000, Card("Tesla T4", "7.5", 15109), pci_id="10de:1eb8"),
    "rtx2080-520": cards("520.61.05", 11080, Card("NVIDIA GeForce RTX 2080 Ti", "7.5", 11264), pci_id="10de:1e07"),
    "a100-525": cards("525.147.05", 12000, *[A100] * 4, pci_id="10de:20b0"),
    "rtx3090-545": cards("545.29.06", 12030, Card("NVIDIA GeForce RTX 3090", "8.6", 24576), pci_id="10de:2204"),
    "rtx4090-550": cards("550.144.03", 12040, RTX4090, pci_id="10de:2684"),
    "l40s-555": cards("555.42.06", 12050, Card("NVIDIA L40S", "8.9", 46068), pci_id="10de:26b9"),
    "h100-535": cards("535.183.01", 12020, *[H100] * 8),
    "h100-560": cards("560.35.05", 12060, *[H100] * 8),
    "h100-570": cards("570.124.06", 12080, *[H100] * 8),
    "h200-575": cards("575.57.08", 12090, *[H200] * 8, pci_id="10de:2335"),
    "h200-580": cards("580.95.05", 13000, *[H200] * 8, pci_id="10de:2335"),
    "h200-container-580": container(cards("580.95.05", 13000, H200, pci_id="10de:2335")),
    "b200-570": cards("570.124.06", 12080, *[B200] * 8, pci_id="10de:2901"),
    "b200-590": cards("590.48.01", 13010, *[B200] * 8, pci_id="10de:2901"),
    "rtx5090-570": cards("570.124.06", 12080, Card("NVIDIA GeForce RTX 5090", "12.0", 32607), pci_id="10de:2b85"),
    "rtx5090-595": cards("595.45.04", 13020, Card("NVIDIA GeForce RTX 5090", "12.0", 32607), pci_id="10de:2b85"),
    "gb10-580": cards("580.95.05", 13000, Card("NVIDIA GB10", "12.1", 0), host=ARM, pci_id="10de:2e12"),
    "gh200-560": cards("560.35.05", 12060, GH200, host=ARM, pci_id="10de:2342"),
    "gb200-580": cards("580.95.05", 13000, *[GB200] * 4, host=ARM, pci_id="10de:2941"),
    "v100-b200-580": cards("580.95.05", 13000, V100, B200),
    "rtx4090-uhd770-570": beside(
        cards("570.124.06", 12080, RTX4090, pci_id="10de:2684"),
        {**pci("0000:00:02.0", "8086:a780", "i915"), "/dev/dri/renderD128": ""},
    ),
    "rtx4090-raphael-570": beside(
        cards("570.124.06", 12080, RTX4090, pci_id="10de:2684"), kfd(("1002:164e", 100306, ""))
    ),
    # MIG, and what the environment leaves visible
    "mig-a100-550": cards("550.144.03", 12040, A100._replace(mig=1, slices=SLICES), A100, pci_id="10de:20b0"),
    "mig-one-slice-550": cards(
        *("550.144.03", 12040, A100._replace(mig=1, slices=SLICES), A100), pci_id="10de:20b0",
        CUDA_VISIBLE_DEVICES=SLICES[1].uuid,
    ),
    "mig-empty-550": cards("550.144.03", 12040, A100._replace(mig=1), pci_id="10de:20b0"),
    "hidden-h100-570": cards("570.124.06", 12080, *[H100] * 8, CUDA_VISIBLE_DEVICES=""),
    "b200-of-mixed-580": cards(
        "580.95.05", 13000, V100, B200, CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID"
    ),
    # Jetson
    "orin-540": Scene(
        JETSON,
        {
            "/etc/nv_tegra_release": ORIN_RELEASE,
            **module("540.4.0", "aarch64"),
            "/proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0",
            "/dev/nvidiactl": "",
            "/dev/nvhost-gpu": "",
            "/dev/nvgpu/igpu0": "",
        },
    ),
    "orin-jetpack5": Scene(
        Host(Platform("linux", "aarch64", "glibc 2.31"), "5.10.104-tegra"),
        {
            "/etc/nv_tegra_release": ORIN_RELEASE.replace("R36", "R35").replace("4.3", "3.1"),
            **module("35.3.1", "aarch64"),
            "/proc/device-tree/compatible": "nvidia,p3767-0000\0nvidia,tegra234\0",
            "/dev/nvhost-gpu": "",
        },
    ),
    "thor-580": Scene(
        Host(Platform("linux", "aarch64", "glibc 2.39"), "6.8.12-tegra"),
        {
            "/etc/nv_tegra_release": ORIN_RELEASE.replace("R36", "R38").replace("4.3", "2.0"),
            **module("580.00", "aarch64"),
            **nodes(1),
        },
        Nvml("580.00", 13000, (Card("NVIDIA Thor", "11.0", 0),)),
        "/usr/lib/aarch64-linux-gnu/nvidia",
    ),
    # WSL
    "wsl2-rtx4080-572": Scene(
        WSL,
        {"/dev/dxg": ""},
        Nvml("572.61", 12080, (Card("NVIDIA GeForce RTX 4080", "8.9", 16376),)),
        "/usr/lib/wsl/lib",
    ),
    "wsl2-no-nvidia": Scene(WSL, {"/dev/dxg": ""}),
    # NVIDIA without use
    "broken-mismatch": cards("570.124.06", 0)._replace(
        files={**module("570.124.06"), **nodes(1), **pci("0000:10:00.0", "10de:2330", "nvidia")}, nvml=Nvml(init=18)
    ),
    "broken-not-loaded": Scene(files=pci("0000:10:00.0", "10de:2684"), nvml=Nvml(init=9)),
    "broken-lost": Scene(
        files={**module("550.144.03"), **nodes(1), **pci("0000:10:00.0", "10de:2684", "nvidia")}, nvml=Nvml(init=15)
    ),
    "unreachable-container": container(
        Scene(files={**module("570.124.06"), **pci("0000:10:00.0", "10de:2330", "nvidia")})
    ),
    "unreachable-nouveau": Scene(files=pci("0000:10:00.0", "10de:1b80", "nouveau")),
    "unreachable-vfio": Scene(files=pci("0000:10:00.0", "10de:2684", "vfio-pci")),
    "proc-only-550": Scene(
        files={
            **module("550.144.03"),
            **nodes(1),
            **pci("0000:10:00.0", "10de:2684", "nvidia"),
        }
    ),
    "slow-or-hung-580": Scene(
        files={**module("580.95.05"), **nodes(1), **pci("0000:10:00.0", "10de:2330", "nvidia")},
        nvml=Nvml(extra=("hang init",)),
        env={"UVTORCH_PROBE_TIMEOUT": "0.4"},
    ),
    # AMD
    "vega-gfx900": amd(("1002:687f", 90000, "")),
    "mi50-gfx906": amd(("1002:66a1", 90006, "AMD Instinct MI50")),
    "mi250-gfx90a": amd(*[("1002:740c", 90010, "AMD Instinct MI250X")] * 2),
    "mi300x-gfx942": amd(*[("1002:74a1", 90402, "AMD Instinct MI300X")] * 8),
    "mi355x-gfx950": amd(("1002:75a3", 90500, "AMD Instinct MI355X")),
    "rx6800-gfx1030": amd(("1002:73bf", 100300, "")),
    "rx6700-gfx1031": amd(("1002:73df", 100301, "")),
    "rx6700-as-gfx1030": amd(("1002:73df", 100301, ""), HSA_OVERRIDE_GFX_VERSION="10.3.0"),
    "rx7900-gfx1100": amd(("1002:744c", 110000, "")),
    "780m-gfx1103": amd(("1002:15bf", 110003, "")),
    "strix-halo-gfx1151": amd(("1002:1586", 110501, "")),
    "rx9070-gfx1201": amd(("1002:7550", 120001, "")),
    "gfx1250": amd(("1002:75b0", 120500, "")),
    "rx7900-and-igpu": amd(("1002:164e", 100306, ""), ("1002:744c", 110000, "")),
    "mi300x-container-no-kfd": container(Scene(files=kfd(("1002:74a1", 90402, ""), dev=False))),
    # Intel
    "arc-a770": intel("8086:56a0", "i915"),
    "arc-b580": intel("8086:e20b"),
    "pvc-max1550": intel("8086:0bd5", "i915"),
    "lunar-lake": intel("8086:64a0"),
    "arrow-lake-h": intel("8086:7d51"),
    "arrow-lake-s": intel("8086:7d67"),
    "panther-lake": intel("8086:b080"),
    "uhd770": intel("8086:4680", "i915"),
    "flex170": intel("8086:56c0", "i915"),
    "arc-a770-no-driver": intel("8086:56a0", None),
    # Windows
    "windows-cpu": Scene(WINDOWS),
    "windows-rtx5090-572": Scene(
        WINDOWS,
        nvml=Nvml("572.61", 12080, (Card("NVIDIA GeForce RTX 5090", "12.0", 32607),)),
        lists_adapters=(adapter("10de:2b85", "NVIDIA GeForce RTX 5090"),),
    ),
    "windows-rtx3060-528": Scene(
        WINDOWS,
        nvml=Nvml("528.33", 12000, (Card("NVIDIA GeForce RTX 3060", "8.6", 12288),)),
        lists_adapters=(
            adapter("8086:4680", "Intel(R) UHD Graphics 770"), adapter("10de:2504", "NVIDIA GeForce RTX 3060")
        ),
    ),
    "windows-rx7900": Scene(WINDOWS, lists_adapters=(adapter("1002:744c", "AMD Radeon RX 7900 XTX"),)),
    "windows-arc-b580": Scene(WINDOWS, lists_adapters=(adapter("8086:e20b", "Intel(R) Arc(TM) B580 Graphics"),)),
    "windows-arm64": Scene(Host(Platform("windows", "arm64"))),
    # macOS
    "macos-m3": Scene(Host(Platform("macos", "arm64", os_version="15.1"), "24.1.0", "Apple M3")),
    "macos-intel": Scene(
        Host(Platform("macos", "x86_64", os_version="13.6"), "22.6.0", "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz")
    ),
    "macos-rosetta": Scene(Host(Platform("macos", "x86_64", os_version="15.1"), "24.1.0", "Apple M3")),
    # uv's overrides
    "override-driver-550": Scene(files=OTHER_PCI, env={"UV_CUDA_DRIVER_VERSION": "550.144.03"}),
    "override-gfx1100": Scene(files=OTHER_PCI, env={"UV_AMD_GPU_ARCHITECTURE": "gfx1100"}),
}  # fmt: skip


def every_vendor() -> dict[str, str]:
    """One machine with the files of every vendor, but no library and no program."""
    return {
        **OTHER_PCI,
        **module("570.124.06"),
        **nodes(2),
        **pci("0000:10:00.0", "10de:2330", "nvidia"),
        **kfd(("1002:74a1", 90402, "AMD Instinct MI300X"), ("1002:164e", 100306, "")),
        **pci("0000:00:02.0", "8086:56a0", "i915"),
        "/dev/dri/renderD128": "",
        "/etc/nv_tegra_release": ORIN_RELEASE,
        "/proc/device-tree/compatible": "nvidia,p3767-0000\0nvidia,tegra234\0",
        "/proc/1/cgroup": "0::/init.scope\n",
    }
