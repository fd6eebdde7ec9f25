"""The functions of CANN that need no code of their own, and the libraries they are in.

``cann.c`` has the functions that do something. ``SUCCEED`` are those whose work is done
as soon as they are called, since nothing on the soft NPU is asynchronous, or that set
what it does not have. ``REFUSE`` are those that cannot be answered, and that torch_npu
links, so that they must be there, or of which the error shall say that it is the soft NPU
that lacks them. What is in neither is looked up by name and found to be missing, which
torch_npu reports with the name: every aclnn kernel is among these.

All return an aclError or nothing, and none has a result to write through a pointer, which
a test checks against CANN's headers. So they are compiled without parameters: on x86-64
and AArch64 it is the caller who passes arguments and who cleans up after them, and a
function that looks at none need not declare any.
"""

from __future__ import annotations

__all__ = ["LIBRARIES", "MAIN", "REFUSE", "SUCCEED"]

#: The library that holds every function.
MAIN = "ascendcl"

#: Linked or opened by torch_npu under these names; they lead to the main one.
LIBRARIES = (
    *("hccl", "acl_op_compiler", "ge_runner", "graph"),  # linked
    *("opapi", "nnopbase", "acl_tdt_channel", "msprofiler", "runtime"),  # opened
    *("ascend_hal", "mspti"),  # opened to profile
)

SUCCEED = (
    # process and device
    *("aclFinalize", "aclAppLog", "aclSetCompileopt"),
    *("aclrtResetDevice", "aclrtSynchronizeDevice", "aclrtSynchronizeDeviceWithTimeout"),
    *("aclrtDeviceEnablePeerAccess", "aclrtDeviceTaskAbort", "aclrtSetDeviceSatMode"),
    *("aclrtSetOpExecuteTimeOut", "aclrtSetOpWaitTimeout"),
    *("aclrtGetLastError", "aclrtPeekAtLastError"),
    *("aclmdlInitDump", "aclmdlSetDump", "aclmdlFinalizeDump"),
    # streams and events
    *("aclrtSynchronizeStream", "aclrtSynchronizeStreamWithTimeout", "aclrtSynchronizeEvent"),
    *("aclrtStreamWaitEvent", "aclrtSetStreamFailureMode", "aclrtSetStreamOverflowSwitch"),
    *("aclrtSetStreamAttribute", "aclrtSetStreamResLimit", "aclrtResetStreamResLimit"),
    *("aclrtUseStreamResInCurrentThread", "aclrtUnuseStreamResInCurrentThread"),
    *("aclrtSubscribeReport", "aclrtUnSubscribeReport"),
    # memory
    *("aclrtHostUnregister", "aclrtCmoAsync"),
    # descriptions of the arguments of a kernel, which is refused afterwards
    *("aclDestroyDataBuffer", "aclopDestroyAttr", "aclSetTensorDescName", "aclSetTensorPlaceMent"),
    *("aclopSetAttrBool", "aclopSetAttrDataType", "aclopSetAttrFloat", "aclopSetAttrInt"),
    *("aclopSetAttrString", "aclopSetAttrListBool", "aclopSetAttrListFloat"),
    *("aclopSetAttrListInt", "aclopSetAttrListListInt"),
    # collective communication: Gloo's (hccl/), not HCCL's
    *("HcclSetConfig",),
    # profiling: nothing is recorded
    *("MsprofRegisterCallback", "MsprofReportAdditionalInfo", "MsprofReportApi"),
    *("MsprofReportCompactInfo", "aclprofInit", "aclprofWarmup", "aclprofStart", "aclprofStop"),
    *("aclprofSetConfig", "aclprofRegisterDeviceCallback", "aclprofMarkEx", "aclprofFinalize"),
    "aclprofDestroyConfig",
)

REFUSE = (
    # graphs of captured kernels, of which there are none
    *("aclmdlRICaptureBegin", "aclmdlRICaptureToModelRIBegin"),
    # memory of another process
    *("aclrtIpcMemGetExportKey", "aclrtIpcMemImportByKey", "aclrtIpcGetEventHandle"),
    "aclrtIpcOpenEventHandle",
    # one process for several devices: DataParallel
    "HcclCommInitAll",
    # the driver's own clock
    "halGetDeviceInfo",
    # kernels in files, physical memory of another process
    *("aclrtBinaryGetFunction", "aclrtBinaryLoadFromData"),
    *("aclrtGetFunctionAddr", "aclrtMemExportToShareableHandle"),
    *("aclrtMemImportFromShareableHandle", "aclrtMemSetPidToShareableHandle"),
    *("rtDevBinaryRegister", "rtFunctionRegister", "rtGetC2cCtrlAddr", "rtKernelLaunch"),
)
